//! `meltemi decode` on frames of real programs and on broken ones.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use meltemi::decode::{self, MAX_FRAME_BYTES};
use meltemi_codecs::Dubbo;
use serde_json::{Value, json};

/// The folders with what real programs sent.
const PROGRAMS: [&str; 3] = ["java-2.7.23", "java-3.3.5", "envoy-1.38.2"];

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../codecs/vectors/dubbo")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(vectors().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "bin")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn vector(name: &str) -> Vec<u8> {
    fs::read(vectors().join(name)).unwrap()
}

fn meltemi(input: &[u8]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("meltemi").unwrap();
    command.args(["decode", "--protocol", "dubbo"]).write_stdin(input).assert()
}

fn lines(output: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn decoded(input: &[u8]) -> Vec<Value> {
    let mut output = Vec::new();
    decode::decode(&Dubbo, MAX_FRAME_BYTES, input, &mut output).unwrap();
    lines(&output)
}

/// Decodes input that is broken: what was read of it, and the error.
fn broken(input: &[u8]) -> (Vec<Value>, String) {
    let assert = meltemi(input).code(1);
    let output = assert.get_output();
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    (lines(&output.stdout), error)
}

#[test]
fn every_frame_of_a_real_program_is_told() {
    for path in PROGRAMS.into_iter().flat_map(files) {
        // <scene>-<method>.<c2s or s2c>.id<id>.<kind>.bin
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let parts: Vec<&str> = name.rsplit('.').collect();
        let kind = match parts[1] {
            "req" => "request",
            "req-oneway" => "one-way",
            "resp" => "response",
            "event-resp" => "heartbeat-response",
            _ if name.starts_with("readonly") => "event",
            _ => "heartbeat-request",
        };
        let id: u64 = parts[2].strip_prefix("id").unwrap().parse().unwrap();
        let frame = fs::read(&path).unwrap();
        let records = decoded(&frame);
        let [record] = records.as_slice() else { panic!("{name}: {records:?}") };
        assert_eq!(record["kind"], kind, "{name}");
        assert_eq!(record["id"], id, "{name}");
        assert_eq!(record["length"], frame.len(), "{name}");
        let serialization = if name.contains("fastjson2") { "fastjson2" } else { "hessian2" };
        assert_eq!(record["serialization"], serialization, "{name}");
        assert_eq!(record.get("status").is_some(), kind.ends_with("response"), "{name}");
        if kind == "request" || kind == "one-way" {
            assert_eq!(record["attributes"]["interface"], "org.example.DemoService", "{name}");
        }
    }
}

/// What another decoder of Hessian reads of the requests is told, and no attachment besides.
#[test]
fn another_decoder_agrees() {
    for folder in PROGRAMS {
        let expected = fs::read_to_string(vectors().join(folder).join("expected.tsv")).unwrap();
        for line in expected.lines() {
            let mut fields = line.split('\t');
            let name = format!("{folder}/{}", fields.next().unwrap());
            let [record] = &decoded(&vector(&name))[..] else { panic!("{name}") };
            let mut attachments = serde_json::Map::new();
            for (field, value) in fields.map(|field| field.split_once('=').unwrap()) {
                match field.strip_prefix('@') {
                    Some(field) => drop(attachments.insert(field.to_owned(), value.into())),
                    None => assert_eq!(record["attributes"][field], value, "{name} {field}"),
                }
            }
            let told = record.get("attachments").and_then(Value::as_object).cloned().unwrap_or_default();
            assert_eq!(told, attachments, "{name}");
        }
    }
}

#[test]
fn every_form_of_a_body_is_read_to_its_attachments() {
    for path in files("hessian-4.0.66") {
        let [record] = &decoded(&fs::read(&path).unwrap())[..] else { panic!("{}", path.display()) };
        assert_eq!(record["attributes"]["method"], path.file_stem().unwrap().to_str().unwrap());
        assert!(record["attachments"].is_object(), "{record}");
    }
}

#[test]
fn requests_and_responses_are_told_in_full() {
    let bytes = [
        vector("java-2.7.23/main-whoami.c2s.id10.req.bin"),
        vector("java-2.7.23/main-whoami.s2c.id10.resp.bin"),
        vector("java-2.7.23/main-fail.s2c.id8.resp.bin"),
        vector("envoy-1.38.2/noroute-sayHello.s2c.id0.resp.bin"),
    ];
    let records = lines(&meltemi(&bytes.concat()).success().get_output().stdout);
    assert_eq!(
        records[0],
        json!({
            "kind": "request", "id": 10, "length": 184, "serialization": "hessian2",
            "attributes": {
                "dubboVersion": "2.0.2", "interface": "org.example.DemoService", "path": "org.example.DemoService",
                "version": "1.0.0", "method": "whoami", "parameterTypes": "",
            },
            "attachments": {
                "path": "org.example.DemoService", "remote.application": "demo-consumer", "x-lane": "gray",
                "interface": "org.example.DemoService", "version": "1.0.0",
            },
        })
    );
    assert_eq!(
        records[1],
        json!({
            "kind": "response", "id": 10, "outcome": "success", "status": "OK", "length": 62, "serialization": "hessian2",
            "attributes": {"result": "value"},
            "attachments": {"dubbo": "2.0.2", "served-by": "java-2.7.23"},
        })
    );
    assert_eq!(records[2]["attributes"]["exception"], "java.lang.IllegalStateException");
    assert_eq!(records[2]["attributes"]["message"], "fail: x");
    assert_eq!(records[3]["status"], "SERVICE_NOT_FOUND");
    assert!(records[3]["attributes"]["error"].as_str().unwrap().contains("no route"));
}

#[test]
fn codes_without_a_name_are_numbers() {
    let mut request = vector("java-2.7.23/main-plus.c2s.id1.req.bin");
    request[2] = 0xc0 | 30;
    let mut response = vector("envoy-1.38.2/noroute-sayHello.s2c.id0.resp.bin");
    response[3] = 99;
    let records = decoded(&[request, response].concat());
    assert_eq!(records[0]["serialization"], 30);
    assert_eq!(records[0]["kind"], "request");
    assert!(records[0].get("attachments").is_none());
    assert_eq!(records[1]["status"], 99);
}

#[test]
fn a_file_says_what_the_standard_input_says() {
    let file = vectors().join("java-2.7.23/main-plus.c2s.id1.req.bin");
    let run = |file: &Path| {
        let mut command = Command::cargo_bin("meltemi").unwrap();
        let assert = command.args(["decode", "--protocol", "dubbo"]).arg(file);
        let assert = assert.write_stdin(vector("java-2.7.23/main-plus.c2s.id1.req.bin")).assert();
        assert.success().get_output().stdout.clone()
    };
    assert_eq!(run(&file), run(Path::new("-")));
    let mut command = Command::cargo_bin("meltemi").unwrap();
    let assert = command.args(["decode", "--protocol", "dubbo", "/no/such/file"]).assert().code(1);
    let error = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(error.starts_with("error: cannot read /no/such/file: "), "{error}");
}

#[test]
fn nothing_is_no_error() {
    assert!(decoded(b"").is_empty());
}

#[test]
fn broken_input_is_told_with_its_offset_after_what_was_read() {
    let good = vector("java-2.7.23/main-plus.c2s.id1.req.bin");
    let (records, error) = broken(&[&good[..], b"\xda\xbc"].concat());
    assert_eq!(records.len(), 1);
    assert_eq!(error, format!("error: standard input: offset {}: malformed magic\n", good.len() + 1));

    let (records, error) = broken(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((records.len(), &*error), (0, "error: standard input: offset 0: malformed magic\n"));

    let mut huge = good.clone();
    huge[12..16].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    let (records, error) = broken(&[&good[..], &huge].concat());
    assert_eq!(records.len(), 1);
    let offset = good.len();
    assert_eq!(
        error,
        format!(
            "error: standard input: offset {offset}: frame of 2147483663 bytes is over the limit of 16777216\n"
        )
    );
}

#[test]
fn a_broken_body_is_told_as_far_as_it_can_be_read() {
    let mut frame = vector("java-2.7.23/main-sayHello.c2s.id0.req.bin");
    // The attachment map, where there is a byte that starts nothing.
    let map = frame.windows(6).position(|window| window == b"H\x04path").unwrap();
    frame[map + 1] = 0x45;
    let (records, error) = broken(&[&frame[..], &frame].concat());
    assert_eq!(records.len(), 1, "nothing after the first error is told");
    assert_eq!(records[0]["attributes"]["method"], "sayHello");
    assert!(error.starts_with(&format!("error: standard input: offset {}: ", map + 1)), "{error}");
}

#[test]
fn an_incomplete_frame_is_an_error_wherever_it_ends() {
    let frame = vector("java-2.7.23/main-plus.c2s.id1.req.bin");
    for end in 1..frame.len() {
        let mut output = Vec::new();
        let input = [&frame[..], &frame[..end]].concat();
        let error = decode::decode(&Dubbo, MAX_FRAME_BYTES, &input[..], &mut output).unwrap_err();
        assert_eq!(lines(&output).len(), 1);
        let place = format!(
            "offset {}: the input ends inside the frame that starts at offset {}",
            input.len(),
            frame.len()
        );
        assert!(error.to_string().starts_with(&place), "{error}");
    }
}

/// Gives its bytes a few at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.1.min(buffer.len());
        self.0.read(&mut buffer[..size])
    }
}

#[test]
fn however_the_input_arrives_the_output_is_the_same() {
    let names = ["java-2.7.23/threadpool-sayHello.c2s.id2.req.bin", "java-2.7.23/main-fail.s2c.id8.resp.bin"];
    let stream = names.map(vector).concat();
    let told = |size| {
        let mut output = Vec::new();
        decode::decode(&Dubbo, MAX_FRAME_BYTES, Trickle(&stream, size), &mut output).unwrap();
        output
    };
    let whole = told(usize::MAX);
    for size in [1, 7, 4096, 30_000] {
        assert_eq!(told(size), whole, "{size} bytes at a time");
    }
}

#[test]
fn other_protocols_are_refused_by_naming_the_known_ones() {
    let mut command = Command::cargo_bin("meltemi").unwrap();
    let assert = command.args(["decode", "--protocol", "smtp"]).assert().code(2);
    let error = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(error.contains("smtp") && error.contains("possible values: dubbo"), "{error}");
}

/// A request and what lacks its end, by the layout of the tutorial as a file alone and as a resource.
#[test]
fn bytes_are_read_by_a_layout() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut input = b"CR\x01\0\0\0\0\x07\0\x01\0\0\0\0\0\x0bnorth/1 box"[..16].to_vec();
    input.extend(b"\x07north/1box");
    let whole = input.clone();
    input.extend(b"CR\x01\x01");
    for layout in ["examples/layouts/courier.yaml", "istio-samples/private-protocol/layout/protocol.yaml"] {
        let mut command = Command::cargo_bin("meltemi").unwrap();
        command.arg("decode").arg("--layout").arg(root.join(layout));
        let output = command.write_stdin(input.clone()).assert().failure().get_output().clone();
        let read = lines(&output.stdout);
        assert_eq!(read.len(), 1, "{layout}");
        assert_eq!(read[0]["attributes"], json!({"command": "deliver", "depot": "north/1"}));
        assert_eq!((&read[0]["kind"], &read[0]["length"]), (&json!("request"), &json!(whole.len())));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("the input ends inside the frame that starts at offset 27"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.yaml");
    fs::write(&broken, "length: {at: 0, as: u12}\n").unwrap();
    let mut command = Command::cargo_bin("meltemi").unwrap();
    let output = command.arg("decode").arg("--layout").arg(&broken).assert().failure().get_output().clone();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("broken.yaml: length.as: \"u12\" is no way to write a number"), "{said}");
}

/// The bytes by field, and where the layout does not understand them any more: plain in a pipe, in colours where they are wanted.
#[test]
fn bytes_are_shown_by_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dumped = |layout: &str, input: &[u8], is_coloured: bool| {
        let mut command = Command::cargo_bin("meltemi").unwrap();
        command.args(["decode", "--dump", "--layout"]).arg(root.join("examples/layouts").join(layout));
        match is_coloured {
            true => command.env("CLICOLOR_FORCE", "1"),
            false => command.env_remove("CLICOLOR_FORCE"),
        };
        let output = command.write_stdin(input).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let rows = shown.lines().filter(|line| !line.starts_with('{')).map(str::to_owned).collect::<Vec<_>>();
        (rows, String::from_utf8(output.stderr).unwrap())
    };
    let courier = [b"CR\x01\0\0\0\0\x07\0\x01\0\0\0\0\0\x0b".as_slice(), b"\x07north/1box"].concat();
    let (rows, said) = dumped("courier.yaml", &[&courier[..], b"CR\x02"].concat(), false);
    assert_eq!(
        rows,
        [
            "00000000  43 52 01                                         CR.               magic",
            "00000003  00                                               .                 kind",
            "00000004  00 00 00 07                                      ....              id",
            "00000008  00 01                                            ..                command",
            "0000000a  00 00                                            ..",
            "0000000c  00 00 00 0b                                      ....              length",
            "00000010  07                                               .                 length of depot",
            "00000011  6e 6f 72 74 68 2f 31                             north/1           depot",
            "00000018  62 6f 78                                         box",
            "0000001b  43 52 02                                         CR.               malformed magic",
        ]
    );
    assert_eq!(said, "error: standard input: offset 27: malformed magic\n");
    let (rows, _) = dumped("courier.yaml", &courier[..14], false);
    assert_eq!(rows.last().unwrap(), "0000000e  the frame needs 2 bytes more");

    let (coloured, _) = dumped("courier.yaml", &courier, true);
    let colours: Vec<&str> = coloured.iter().filter_map(|row| row.split_once('\u{1b}')?.1.get(..4)).collect();
    assert_eq!(coloured.len(), 9);
    assert!(colours.iter().zip(colours.iter().skip(1)).all(|(one, next)| one != next), "{colours:?}");

    // A message in a part: the fields lie in it, and the lengths of the parts before them.
    let folder = root.join("codecs/vectors/brpc");
    let request = files_of(&folder).into_iter().find(|path| path.to_string_lossy().contains("req")).unwrap();
    let (rows, _) = dumped("brpc.yaml", &fs::read(request).unwrap(), false);
    for name in ["magic", "length", "length of meta", "meta", "service", "method", "id"] {
        assert!(rows.iter().any(|row| row.rsplit("  ").next().unwrap().trim() == name), "{name}: {rows:#?}");
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files_of(&path) } else { vec![path] })
        .collect();
    files.sort();
    files
}
