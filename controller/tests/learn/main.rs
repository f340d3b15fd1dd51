//! `meltemi learn` on captures of every protocol here, as if nobody had described it.

mod hostile;
#[path = "../packets/mod.rs"]
mod packets;
mod sure;
mod talks;

use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;

use meltemi::decode::{self, Form, MAX_FRAME_BYTES, Manner, View};
use meltemi::learn::{self, Wish};
use meltemi_codecs::{Codec, Edit};
use packets::Capture;
use serde_json::{Value, json};
use talks::{Talks, capture, courier, protocols};

/// A layout that was learnt, and what `meltemi decode` reads by it.
struct Learnt {
    text: String,
    layout: Value,
    lines: Vec<Value>,
}

fn learnt(capture: &[u8]) -> Learnt {
    let (text, error) = learn::learn(capture, &Wish::default());
    assert!(error.is_none(), "{error:?}");
    let text = text.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layout.yaml");
    fs::write(&file, &text).unwrap();
    let codec: Rc<dyn Codec> = Rc::new(decode::layout::read(&file).unwrap());
    let manner = Manner { max_frame_bytes: MAX_FRAME_BYTES, form: Form::Capture, view: View::Lines };
    let mut output = Vec::new();
    decode::read(&[codec], manner, capture, &mut output).unwrap();
    let lines = String::from_utf8(output).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let layout = serde_saphyr::from_str(&text).unwrap();
    Learnt { text, layout, lines }
}

impl Learnt {
    /// Requests with their answers.
    fn answered(&self) -> Vec<&Value> {
        let is_call = |line: &&Value| line["request"].is_object() && line["response"].is_object();
        self.lines.iter().filter(is_call).filter(|line| line["request"]["kind"] == "request").collect()
    }

    fn requests(&self) -> Vec<&Value> {
        let requests = self.lines.iter().map(|line| &line["request"]).filter(|request| request.is_object());
        requests.filter(|request| request["kind"] != "heartbeat-request").collect()
    }
}

/// What is expected of a protocol: calls that are answered, requests in all, and the service and the method that a layout can
/// name.
type Expected = (usize, usize, Option<&'static str>, Option<&'static str>);

#[test]
fn every_protocol_is_learnt_as_if_it_were_unknown() {
    let expected: BTreeMap<&str, Expected> = [
        ("brpc", (7, 8, Some("example.EchoService"), Some("Echo"))),
        ("trpc", (8, 10, Some("trpc.helloworld.Greeter"), Some("/trpc.helloworld.Greeter/Hello"))),
        // Its method is in the content, but for one call.
        ("bolt", (5, 5, Some("com.nodejs.test.TestService:1.0"), None)),
        ("dubbo", (11, 12, Some("org.example.DemoService"), Some("sayHello"))),
        // The name has no service, and is behind an inner header in the rest.
        ("framed-binary", (7, 8, None, Some("sayHello"))),
        ("framed-compact", (7, 8, None, Some("sayHello"))),
        ("header-binary", (7, 8, None, None)),
        ("header-compact", (7, 8, None, None)),
        ("header-binary-zlib", (7, 8, None, None)),
        ("courier", (10, 11, Some("north/1"), Some("0"))),
        ("qza", (10, 10, Some("7"), Some("0"))),
        ("videopacket", (10, 10, None, Some("play"))),
    ]
    .into();
    let protocols = protocols();
    assert_eq!(protocols.len(), expected.len());
    for (name, talks) in protocols {
        let learnt = learnt(capture(&talks).bytes());
        let (answered, requests, service, method) = expected[name];
        let text = &learnt.text;
        assert!(
            learnt.lines.iter().all(|line| line["error"].is_null()),
            "{name}: {text}\n{:#?}",
            learnt.lines
        );
        let pairs = learnt.answered();
        assert_eq!((pairs.len(), learnt.requests().len()), (answered, requests), "{name}: {text}");
        assert!(pairs.iter().all(|pair| pair["request"]["id"] == pair["response"]["id"]), "{name}");
        for (field, wanted) in [("service", service), ("method", method)] {
            let attribute = learnt.layout[field].as_str();
            assert_eq!(attribute.is_some(), wanted.is_some(), "{name} {field}: {text}");
            let says_so = text.contains(&format!("# Not found: {field}: "));
            assert_eq!(says_so, wanted.is_none(), "{name} {field}: {text}");
            let Some((attribute, wanted)) = attribute.zip(wanted) else { continue };
            let values: Vec<&str> = learnt
                .requests()
                .iter()
                .filter_map(|request| request["attributes"][attribute].as_str())
                .collect();
            assert!(values.contains(&wanted), "{name} {field}: {values:?}");
            assert_eq!(values.len(), requests, "{name} {field}: every request says it: {text}");
        }
        let again = learn::learn(capture(&talks).bytes(), &Wish::default()).0.unwrap();
        assert_eq!(again, *text, "{name}: the same capture says the same");
    }
}

/// The places that these protocols are known to have.
#[test]
fn magic_length_id_and_kind_are_where_the_protocols_have_them() {
    for (name, fields) in [
        (
            "dubbo",
            json!({
                "magic": "dabb", "length": {"at": 12, "as": "u32", "plus": 16}, "id": {"at": 4, "as": "u64"}, "header": 16,
                "kind": {
                    "at": 2, "as": "u8", "request": 0xc2, "oneWay": 0x82, "heartbeat": 0xe2, "response": 2,
                    "heartbeatReply": 0x22,
                },
                "heartbeatReply": "dabb2214 {id:u64} 000000014e",
            }),
        ),
        (
            "brpc",
            json!({
                "magic": "50525043", "length": {"at": 4, "as": "u32", "plus": 12}, "id": {"in": "part1", "path": "4"},
                "header": 12, "kind": null,
            }),
        ),
        (
            "trpc",
            json!({
                "magic": "0930", "length": {"at": 4, "as": "u32"}, "id": {"at": 10, "as": "u32"}, "header": 16,
                "idCopies": [{"in": "part1", "path": "3"}], "kind": {"in": "part1", "path": "2", "oneWay": 1},
            }),
        ),
        (
            "bolt",
            json!({
                "magic": "01", "length": null, "id": {"at": 5, "as": "u32"}, "header": 22,
                "kind": {
                    "at": 1, "as": "u24", "request": 0x010001, "heartbeat": 0x010000, "response": 2, "heartbeatReply": 0,
                },
            }),
        ),
        (
            "framed-binary",
            json!({
                "magic": "8001", "magicAt": 4, "length": {"at": 0, "as": "u32", "plus": 4}, "id": null, "header": 8,
                "kind": {"at": 7, "as": "u8", "oneWay": 4},
            }),
        ),
        (
            "courier",
            json!({
                "magic": "435201", "length": {"at": 12, "as": "u32", "plus": 16}, "id": {"at": 4, "as": "u32"},
                "kind": {
                    "at": 3, "as": "u8", "request": 0, "oneWay": 2, "heartbeat": 4, "response": 1, "heartbeatReply": 5,
                },
            }),
        ),
        (
            "qza",
            json!({
                "magic": "715a41", "length": {"at": 4, "as": "u32le", "plus": 8}, "id": {"at": 8, "as": "u32le"},
                "kind": {"at": 3, "as": "u8", "request": 1, "response": 2},
            }),
        ),
        (
            "videopacket",
            json!({
                "magic": "5650", "length": {"at": 2, "as": "varint"}, "id": {"at": 0, "as": "u64"},
                "kind": {"at": 8, "as": "u8", "request": 0x10, "response": 0x20},
            }),
        ),
    ] {
        let talks = protocols().into_iter().find(|(known, _)| *known == name).unwrap().1;
        let learnt = learnt(capture(&talks).bytes());
        for (field, wanted) in fields.as_object().unwrap() {
            assert_eq!(learnt.layout[field], *wanted, "{name} {field}: {}", learnt.text);
        }
    }
}

fn refused(capture: &[u8], wish: &Wish) -> String {
    let (text, error) = learn::learn(capture, wish);
    assert!(text.is_none(), "{text:?}");
    error.unwrap().to_string()
}

#[test]
fn what_cannot_be_learnt_from_is_refused_in_one_line() {
    let said = |talks: &[Vec<(bool, Vec<u8>)>]| {
        let error = refused(capture(talks).bytes(), &Wish::default());
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    assert!(refused(b"GET / HTTP/1.1", &Wish::default()).starts_with("offset 0: this is no capture"));
    assert_eq!(said(&[]), "the capture has no TCP connection that sends anything");
    let one_way = vec![(true, b"CR\x01".to_vec()); 9];
    assert!(said(&[one_way]).starts_with("no connection was captured both ways"));
    let hello = [&[0x16, 3, 1, 2, 0][..], &[7; 512]].concat();
    let tls = vec![(true, hello.clone()), (false, hello), (true, vec![0x17, 3, 3, 0, 1, 9])];
    assert!(said(&[tls]).starts_with("server 127.0.0.1:7000: the connections are encrypted by TLS"));
    let http = vec![(true, b"GET / HTTP/1.1\r\n\r\n".to_vec()), (false, b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
    assert!(said(&[http]).starts_with("server 127.0.0.1:7000: this is HTTP"));
    let lines = (0..20).flat_map(|number| {
        [
            (true, format!("get {number}\r\n").into_bytes()),
            (false, format!("+{}\r\n", "x".repeat(number)).into_bytes()),
        ]
    });
    assert!(said(&[lines.collect()]).contains("nothing near the start of frames says how long they are, in"));
    let mut few = courier();
    few[0].truncate(4);
    let error = said(&few);
    assert!(error.contains("too few"), "{error}");
    // Frames of one length, in which any number may be it.
    let same = (0..20_u8)
        .flat_map(|id| [(true, vec![8, 0, id, 1, 1, 1, 1, 1]), (false, vec![8, 0, id, 2, 2, 2, 2, 2])]);
    let error = said(&[same.collect()]);
    assert!(error.contains("of one length"), "{error}");
}

#[test]
fn a_cut_capture_is_told_after_what_was_learnt_from_the_rest() {
    let whole = capture(&courier());
    let bytes = whole.bytes();
    let (text, error) = learn::learn(&bytes[..bytes.len() - 7], &Wish::default());
    assert!(text.unwrap().contains("id: {at: 4, as: u32}"));
    let error = error.unwrap().to_string();
    assert!(
        error.starts_with(&format!("offset {}: the capture ends inside the packet", bytes.len() - 7)),
        "{error}"
    );
    let mut learnt_some = 0;
    for end in 0..bytes.len() {
        let (text, error) = learn::learn(&bytes[..end], &Wish::default());
        assert!(text.is_some() || error.is_some(), "{end}");
        if let Some(error) = error.map(|error| error.to_string()) {
            assert_eq!(error.lines().count(), 1, "{error}");
            // Between two packets, what there is may be too little.
            assert!(error.starts_with("offset ") || end >= 24 && text.is_none(), "{end}: {error}");
        }
        learnt_some += usize::from(text.is_some());
    }
    assert!(learnt_some > bytes.len() / 4, "{learnt_some}");
}

#[test]
fn one_server_is_learnt_from_and_others_are_named() {
    let (mut talk, mut other) = (Capture::new(), Vec::new());
    for port in [7001, 7002] {
        let mut connection = talk.connect(40001, port);
        for (is_request, bytes) in &courier()[0] {
            let bytes = if port == 7002 { [b"\0\0", &bytes[..]].concat() } else { bytes.clone() };
            match is_request {
                true => talk.ask(&mut connection, &bytes),
                false => talk.answer(&mut connection, &bytes),
            }
        }
        talk.close(connection);
    }
    for (server, place) in [("7001", 12), ("127.0.0.1:7002", 14)] {
        let wish = Wish { server: Some(server.to_owned()), ..Wish::default() };
        let (text, error) = learn::learn(talk.bytes(), &wish);
        let text = text.unwrap();
        assert!(error.is_none());
        assert!(text.contains(&format!("length: {{at: {place}, as: u32")), "{text}");
        other.push(text);
    }
    assert!(
        other[0].contains("# Not learnt from: connections to 127.0.0.1:7002; --server chooses."),
        "{}",
        other[0]
    );
    let wish = Wish { server: Some("7003".to_owned()), ..Wish::default() };
    assert_eq!(
        refused(talk.bytes(), &wish),
        "no connection to 7003: the capture has connections to 127.0.0.1:7001, 127.0.0.1:7002"
    );
}

/// Clients keep their connections: most captures start in the middle of them.
#[test]
fn a_connection_whose_start_was_not_captured_is_learnt_from() {
    let mut capture = Capture::new();
    let mut connection = Capture::joined(40001, 7000);
    capture.answer(&mut connection, b"the end of an answer");
    for (is_request, bytes) in &courier()[0] {
        match is_request {
            true => capture.ask(&mut connection, bytes),
            false => capture.answer(&mut connection, bytes),
        }
    }
    let (text, error) = learn::learn(capture.bytes(), &Wish::default());
    assert!(error.is_none());
    let text = text.unwrap();
    assert!(text.contains("11 of 11 answers repeat that of a request: sure\nid: {at: 4, as: u32}"), "{text}");
}

/// A length of one byte shows no order of bytes, as a varint does not.
#[test]
fn no_more_of_small_ids_is_rewritten_than_is_known_to_be_theirs() {
    let frame = |kind, id: u32, text: &str| {
        let name = [&b"hoist"[..], b"lift", b"drop"][id as usize % 3];
        let mut frame = vec![0, kind];
        frame.extend([name, &vec![0; 12 - name.len()]].concat());
        frame.extend(id.to_le_bytes());
        frame.extend(text.repeat(1 + id as usize % 9).as_bytes());
        frame[0] = u8::try_from(frame.len() - 1).unwrap();
        frame
    };
    let learnt = |ids: core::ops::Range<u32>| {
        let calls = ids.flat_map(|id| [(true, frame(1, id, "load ")), (false, frame(2, id, "done"))]);
        learn::learn(capture(&[calls.collect()]).bytes(), &Wish::default()).0.unwrap()
    };
    let text = learnt(1..40);
    assert!(text.contains("if it was never over 255\nid: {at: 14, as: u8}"), "{text}");
    // What answers repeat, and servers are not to miss, stays.
    let raw = serde_saphyr::from_str(&text).unwrap();
    let layout = meltemi_proxy::plan::layout("learnt", &raw).unwrap();
    let mut out = Vec::new();
    layout.rewrite(&frame(1, 7, "load "), &Edit { id: Some(200), ..Edit::default() }, &mut out).unwrap();
    assert_eq!(
        out,
        frame(1, 7, "load ").iter().map(|byte| if *byte == 7 { 200 } else { *byte }).collect::<Vec<_>>()
    );
    let text = learnt(1..600);
    assert!(text.contains("a request: sure\nid: {at: 14, as: u32le}"), "{text}");
}

/// Many requests before the first answer, which come in another order, and in segments that have no regard for frames.
#[test]
fn pipelined_calls_whose_answers_overtake_each_other_are_paired() {
    let frames = &courier()[0];
    let asked: Vec<&Vec<u8>> = frames.iter().filter(|(asks, _)| *asks).map(|(_, bytes)| bytes).collect();
    let mut answers: Vec<&Vec<u8>> =
        frames.iter().filter(|(asks, _)| !asks).map(|(_, bytes)| bytes).collect();
    let mut talks = Talks::new();
    for turn in 0..6 {
        answers.rotate_left(turn);
        let mut bytes: Vec<(bool, Vec<u8>)> = asked.iter().map(|frame| (true, (*frame).clone())).collect();
        bytes.extend(answers.iter().map(|frame| (false, (*frame).clone())));
        talks.push(bytes);
    }
    let learnt = learnt(capture(&talks).bytes());
    assert_eq!(learnt.layout["id"], json!({"at": 4, "as": "u32"}), "{}", learnt.text);
    assert_eq!(learnt.answered().len(), 60, "{}", learnt.text);
}

#[test]
fn an_application_protocol_is_printed_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("courier.pcap");
    fs::write(&file, capture(&courier()).bytes()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("meltemi").unwrap();
        let output = command.arg("learn").args(arguments).arg(&file).assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    let (alone, named): (Value, Value) = (
        serde_saphyr::from_str(&run(&[])).unwrap(),
        serde_saphyr::from_str(&run(&["--protocol", "courier", "--server", "7000"])).unwrap(),
    );
    assert_eq!(named["kind"], "ApplicationProtocol");
    assert_eq!(named["spec"], json!({"protocol": "courier", "layout": alone}));
    let mut command = assert_cmd::Command::cargo_bin("meltemi").unwrap();
    let output = command.arg("learn").write_stdin("nothing").assert().code(1).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: standard input: offset 0: this is no capture of packets"), "{error}");
}

/// What is learnt of bytes without a rule is nothing, and never a panic.
#[test]
fn nothing_is_made_up_of_random_bytes() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..60 {
        let talks: Talks = (0..1 + random() % 3)
            .map(|_| {
                let turns = (0..4 + random() % 40).map(|turn| {
                    let bytes = (0..1 + random() % 80).map(|_| random().to_le_bytes()[0]).collect();
                    (turn % 2 == 0, bytes)
                });
                turns.collect()
            })
            .collect();
        let (text, error) = learn::learn(capture(&talks).bytes(), &Wish::default());
        assert!(text.is_none() && error.is_some(), "round {round}: {}", text.unwrap_or_default());
    }
}

/// Frames that lie in every byte: what still comes out is proven, or it is an error.
#[test]
fn broken_frames_break_nothing() {
    let mut seed = 7_u64;
    for (name, talks) in protocols() {
        for _ in 0..12 {
            let mut broken = talks.clone();
            for (_, bytes) in broken.iter_mut().flatten() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
                if seed >> 62 == 0 {
                    bytes[at] = seed.to_le_bytes()[6];
                }
                if seed >> 60 == 5 {
                    bytes.truncate(at + 1);
                }
            }
            let (text, error) = learn::learn(capture(&broken).bytes(), &Wish::default());
            assert!(text.is_some() || error.is_some(), "{name}");
        }
    }
}

/// A megabyte of what makes many framings fit for long.
#[test]
fn nothing_is_made_up_of_bytes_that_are_all_the_same() {
    for byte in [0, 1, 2, 8, 0x40, 0xff] {
        let talk: Vec<(bool, Vec<u8>)> =
            (0..600).map(|turn| (turn % 2 == 0, vec![byte; 1 + turn * 7 % 3000])).collect();
        let (text, _) = learn::learn(capture(&[talk.clone(), talk]).bytes(), &Wish::default());
        assert!(text.is_none(), "{byte}: {}", text.unwrap_or_default());
    }
}
