//! `meltemi decode` on captures of packets: real ones, and what happens to packets on their way.

#[path = "packets/mod.rs"]
mod packets;

use std::fs;
use std::path::Path;
use std::rc::Rc;

use meltemi::decode::{self, Form, MAX_FRAME_BYTES, Manner, View};
use meltemi_codecs::{Codec, Codecs};
use serde_json::{Value, json};

fn capture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)).unwrap()
}

fn all() -> Vec<Rc<dyn Codec>> {
    let codecs = Codecs::all();
    codecs.names().map(|name| codecs.get(name).unwrap().clone()).collect()
}

fn manner(form: Form) -> Manner {
    Manner { max_frame_bytes: MAX_FRAME_BYTES, form, view: View::Lines }
}

fn read(bytes: &[u8]) -> (Vec<Value>, Result<(), String>) {
    let mut output = Vec::new();
    let outcome = decode::read(&all(), manner(Form::Auto), bytes, &mut output);
    let lines = String::from_utf8(output).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, outcome.map_err(|error| error.to_string()))
}

fn whole(bytes: &[u8]) -> Vec<Value> {
    let (lines, outcome) = read(bytes);
    outcome.unwrap();
    lines
}

/// Method, status or outcome, and whether it took a time, of each call that was answered.
fn answered(lines: &[Value]) -> Vec<(&str, &str)> {
    let calls = lines.iter().filter(|line| line["request"].is_object() && line["response"].is_object());
    calls
        .map(|call| {
            assert!(call["millis"].as_f64().is_some_and(|millis| millis > 0.0 && millis < 1000.0), "{call}");
            assert_eq!(call["request"]["id"], call["response"]["id"]);
            let outcome = call["response"].get("outcome").or(call["response"].get("status")).unwrap();
            (call["request"]["attributes"]["method"].as_str().unwrap(), outcome.as_str().unwrap())
        })
        .collect()
}

fn ends(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["ended"].is_string()).collect()
}

/// The packets of a pcap: headers and data, the header of the file first.
fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (header, mut rest) = bytes.split_at(24);
    let mut packets = vec![header.to_vec()];
    while !rest.is_empty() {
        let size = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let (packet, left) = rest.split_at(16 + size);
        packets.push(packet.to_vec());
        rest = left;
    }
    packets
}

/// The segments of the first connection that carry something, by their places among the packets.
fn full(packets: &[Vec<u8>]) -> Vec<usize> {
    // Ethernet, IPv4 without options, and TCP with a time stamp: a SYN has more options, and carries nothing.
    let is_full = |packet: &[u8]| packet.len() > 82 && packet[28..30] == [8, 0] && packet[63] & 2 == 0;
    (1..packets.len()).filter(|at| is_full(&packets[*at])).collect()
}

#[test]
fn calls_are_shown_with_their_answers_ports_and_times() {
    let lines = whole(&capture("dubbo.pcap"));
    assert_eq!(answered(&lines).len(), 9);
    let call = &lines[0];
    assert_eq!(call["time"], "2026-11-28T15:25:12.465903Z");
    assert_eq!(call["client"], "127.0.0.1:47494");
    assert_eq!(call["server"], "127.0.0.1:24881");
    assert_eq!(call["protocol"], "dubbo");
    assert_eq!(call["request"]["attributes"]["interface"], "org.meltemi.demo.Greeter");
    assert_eq!(call["request"]["attachments"]["x-lane"], "gray");
    assert_eq!(call["response"]["status"], "OK");
    assert_eq!(call["millis"], 4.794);
    let ends = ends(&lines);
    assert_eq!(
        ends[0],
        &json!({
            "client": "127.0.0.1:47494", "server": "127.0.0.1:24881", "protocol": "dubbo", "ended": "closed",
            "calls": 6, "sent": {"bytes": 1038}, "received": {"bytes": 354},
        })
    );
    assert_eq!((ends.len(), &ends[1]["client"], &ends[1]["calls"]), (2, &json!("[::1]:38120"), &json!(3)));
}

#[test]
fn every_kind_of_capture_says_the_same() {
    let lines = whole(&capture("dubbo.pcap"));
    for name in ["dubbo.pcapng", "dubbo-nanoseconds.pcap"] {
        assert_eq!(whole(&capture(name)), lines, "{name}");
    }
    for name in ["dubbo-sll.pcap", "dubbo-sll2.pcap"] {
        let lines = whole(&capture(name));
        assert_eq!((answered(&lines).len(), ends(&lines).len()), (2, 1), "{name}");
    }
    // Other links: the Ethernet header is replaced.
    for (link, header) in
        [(101_u32, &b""[..]), (0, b"\x02\0\0\0"), (1, b"\0\0\0\0\0\0\0\0\0\0\0\0\x81\0\0\x07\x08\0")]
    {
        let mut packets = packets(&capture("dubbo.pcap"));
        packets[0][20..24].copy_from_slice(&link.to_le_bytes());
        for packet in &mut packets[1..] {
            packet.splice(
                16..16 + if link == 1 && packet[16 + 12] != 8 { 12 } else { 14 },
                header.iter().copied(),
            );
            if link == 1 && packet[16 + 18] != 0x45 {
                // IPv6 keeps its own type behind the tag.
                packet.drain(16 + 16..16 + 18);
            }
            let size = u32::try_from(packet.len() - 16).unwrap().to_le_bytes();
            packet[8..12].copy_from_slice(&size);
            packet[12..16].copy_from_slice(&size);
        }
        assert_eq!(whole(&packets.concat()), lines, "link {link}");
    }
}

/// By the layout of the tutorial: a call that is answered, one that is one-way, and one that is not answered.
#[test]
fn a_capture_is_read_by_a_layout() {
    let courier = |kind: u8, id: u8, status: u8, rest: &[u8]| {
        let size = u8::try_from(rest.len()).unwrap();
        [b"CR\x01", &[kind, 0, 0, 0, id, 0, 1, 0, status, 0, 0, 0, size][..], rest].concat()
    };
    let mut capture = packets::Capture::new();
    let mut connection = capture.connect(40001, 7701);
    capture.ask(&mut connection, &courier(0, 7, 0, b"\x07north/1box"));
    capture.wait(2400);
    capture.answer(&mut connection, &courier(1, 7, 3, b"nobody"));
    capture.ask(&mut connection, &courier(2, 8, 0, b"\x05southbox"));
    capture.ask(&mut connection, &courier(0, 9, 0, b"\x05southbox"));
    capture.close(connection);
    let layout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/layouts/courier.yaml");
    let mut command = assert_cmd::Command::cargo_bin("meltemi").unwrap();
    command.arg("decode").arg("--layout").arg(layout).write_stdin(capture.bytes());
    let output = command.assert().success().get_output().stdout.clone();
    let lines: Vec<Value> =
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [call, one_way, open, end] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!((&call["client"], &call["server"]), (&json!("127.0.0.1:40001"), &json!("127.0.0.1:7701")));
    assert_eq!((&call["time"], &call["millis"]), (&json!("2023-11-14T22:13:20.000400Z"), &json!(2.5)));
    assert_eq!(call["request"]["attributes"], json!({"command": "deliver", "depot": "north/1"}));
    assert_eq!((&call["response"]["id"], &call["response"]["status"]), (&json!(7), &json!("NO_ROUTE")));
    assert_eq!(one_way["request"]["kind"], "one-way");
    assert_eq!((&open["request"]["id"], &open["response"]), (&json!(9), &Value::Null));
    assert_eq!((&end["ended"], &end["calls"]), (&json!("closed"), &json!(2)));
}

#[test]
fn a_capture_of_another_byte_order_says_the_same() {
    let mut packets = packets(&capture("dubbo.pcap"));
    packets[0][..4].reverse();
    for range in [4..6, 6..8, 16..20, 20..24] {
        packets[0][range].reverse();
    }
    for packet in &mut packets[1..] {
        packet[..16].chunks_mut(4).for_each(<[u8]>::reverse);
    }
    assert_eq!(whole(&packets.concat()), whole(&capture("dubbo.pcap")));
}

#[test]
fn the_protocol_of_each_connection_is_guessed() {
    let lines = whole(&capture("thrift.pcap"));
    let ends = ends(&lines);
    assert!(ends.len() >= 5 && ends.iter().all(|end| end["protocol"] == "thrift"), "{ends:?}");
    let expected = [
        ("sayHello", "success"),
        ("plus", "success"),
        ("echoUser", "success"),
        ("nothing", "success"),
        ("fail", "exception"),
        ("boom", "error"),
        ("noSuch", "error"),
    ];
    assert_eq!(answered(&lines), expected.repeat(ends.len()));
    let one_way = lines.iter().filter(|line| line["request"]["kind"] == "one-way");
    assert_eq!(one_way.count(), ends.len());
    // Both in one capture.
    let mut both = packets(&capture("dubbo.pcap"));
    both.extend(packets(&capture("thrift.pcap")).into_iter().skip(1));
    assert_eq!(whole(&both.concat()).len(), whole(&capture("dubbo.pcap")).len() + lines.len());
}

#[test]
fn segments_are_put_in_order_and_counted() {
    let original = packets(&capture("dubbo.pcap"));
    let lines = whole(&original.concat());
    let full = full(&original);
    // A request in two parts, of which the second comes first, and the first again after both.
    let mut parts = original.clone();
    let request = parts[full[0]].clone();
    let body = 16 + 14 + 20 + 32;
    let part = |range: std::ops::Range<usize>| {
        let mut packet = request[..body].to_vec();
        packet.extend_from_slice(&request[body + range.start..body + range.end]);
        let size = u32::try_from(packet.len() - 16).unwrap().to_le_bytes();
        packet[8..12].copy_from_slice(&size);
        packet[12..16].copy_from_slice(&size);
        let total = u16::try_from(packet.len() - 30).unwrap().to_be_bytes();
        packet[32..34].copy_from_slice(&total);
        let number = u32::from_be_bytes(packet[54..58].try_into().unwrap());
        let start = u32::try_from(range.start).unwrap();
        packet[54..58].copy_from_slice(&number.wrapping_add(start).to_be_bytes());
        packet
    };
    let end = request.len() - body;
    parts.splice(full[0]..=full[0], [part(100..end), part(0..100), part(0..100)]);
    let mut told = whole(&parts.concat());
    let at = told.iter().position(|line| line["ended"].is_string()).unwrap();
    assert_eq!(told[at]["sent"], json!({"bytes": 1038, "retransmitted": 100, "outOfOrder": 1}));
    told[at]["sent"] = json!({"bytes": 1038});
    assert_eq!(told, lines);
}

#[test]
fn a_missing_segment_is_told_and_what_follows_is_read() {
    let mut packets = packets(&capture("dubbo.pcap"));
    // The third request.
    let missing = full(&packets)[4];
    packets.remove(missing);
    let lines = whole(&packets.concat());
    let gap = lines.iter().find(|line| line["error"].is_string()).unwrap();
    assert_eq!(gap["error"], "173 bytes were not captured");
    assert_eq!((&gap["from"], &gap["offset"]), (&json!("client"), &json!(346)));
    assert_eq!(answered(&lines).len(), 8);
    let alone = lines.iter().filter(|line| line["response"].is_object() && line["request"].is_null());
    assert_eq!(alone.count(), 1);
    assert_eq!(ends(&lines)[0]["sent"], json!({"bytes": 865, "outOfOrder": 1, "missing": 173}));
}

#[test]
fn a_connection_whose_start_was_not_captured_is_read() {
    let mut packets = packets(&capture("dubbo.pcap"));
    packets.drain(1..=3);
    let lines = whole(&packets.concat());
    assert_eq!(answered(&lines).len(), 9);
    // The middle of a frame is passed over.
    let first = full(&packets)[0];
    let number = u32::from_be_bytes(packets[first][54..58].try_into().unwrap());
    packets[first][54..58].copy_from_slice(&number.wrapping_add(40).to_be_bytes());
    packets[first].drain(82..122);
    let size = u32::try_from(packets[first].len() - 16).unwrap().to_le_bytes();
    packets[first][8..12].copy_from_slice(&size);
    packets[first][12..16].copy_from_slice(&size);
    let total = u16::try_from(packets[first].len() - 30).unwrap().to_be_bytes();
    packets[first][32..34].copy_from_slice(&total);
    let lines = whole(&packets.concat());
    assert_eq!(answered(&lines).len(), 8);
    assert!(lines.iter().all(|line| line["error"].is_null()), "{lines:?}");
}

#[test]
fn what_breaks_one_connection_breaks_no_other() {
    let mut packets = packets(&capture("dubbo.pcap"));
    let second = full(&packets)[2];
    packets[second][82] = 0;
    let lines = whole(&packets.concat());
    let broken = lines.iter().find(|line| line["error"].is_string()).unwrap();
    assert_eq!((&broken["error"], &broken["offset"]), (&json!("malformed magic"), &json!(173)));
    assert_eq!(answered(&lines).len(), 8, "the next segment starts a frame");
    assert_eq!(ends(&lines).len(), 2);
}

#[test]
fn what_nobody_knows_is_told_once() {
    let mut packets = packets(&capture("dubbo.pcap"));
    for at in full(&packets) {
        packets[at][82..].fill(0xff);
    }
    let lines = whole(&packets.concat());
    let unknown: Vec<_> = lines.iter().filter(|line| line["error"] == "no known protocol").collect();
    assert_eq!(unknown.len(), 1, "{lines:?}");
    assert_eq!(answered(&lines).len(), 3, "those over IPv6");
}

#[test]
fn nothing_is_lost_that_came_before_the_end_of_a_capture() {
    for name in ["dubbo.pcap", "dubbo.pcapng"] {
        let bytes = capture(name);
        let calls = answered(&whole(&bytes)).len();
        let mut most = 0;
        let mut cuts = 0;
        for end in 4..bytes.len() {
            let (lines, outcome) = read(&bytes[..end]);
            let read = answered(&lines).len();
            assert!(read >= most && read <= calls, "{name} {end}");
            most = read;
            if let Err(error) = outcome {
                cuts += 1;
                assert!(
                    error.starts_with(&format!("offset {end}: the capture ends inside the packet")),
                    "{error}"
                );
            }
        }
        assert_eq!(most, calls, "{name}");
        assert!(cuts > bytes.len() * 9 / 10, "{name}");
    }
}

#[test]
fn a_broken_capture_is_told_with_its_offset() {
    let mut packets = packets(&capture("dubbo.pcap"));
    let before: usize = packets[..12].iter().map(Vec::len).sum();
    packets[12][8..12].fill(0xff);
    let (lines, outcome) = read(&[packets.concat(), vec![0; 65 << 20]].concat());
    assert_eq!(
        outcome.unwrap_err(),
        format!("offset {before}: the capture is broken: a packet of more than 64 MiB")
    );
    assert!(!answered(&lines).is_empty());
}

#[test]
fn bytes_are_read_however_they_are_written() {
    let lines = |text: &[u8]| whole(text);
    let packets = packets(&capture("dubbo.pcap"));
    let frame = packets[full(&packets)[0]][82..].to_vec();
    let expected = lines(&frame);
    assert_eq!(expected.len(), 1);
    let hex = |byte: &u8| format!("{byte:02x}");
    let plain: String = frame.iter().map(hex).collect();
    let words: Vec<String> = frame.iter().map(hex).collect();
    let rows = |first: &str, last: &str| -> String {
        let row = |(at, row): (usize, &[u8])| {
            let digits: Vec<_> = row.iter().map(hex).collect();
            format!("{:08x}{first}{:<47}{last}\n", at * 16, digits.join(" "))
        };
        frame.chunks(16).enumerate().map(row).collect()
    };
    for text in [
        plain.clone(),
        plain.to_uppercase() + "\n",
        words.join(" "),
        words.join(":"),
        words.iter().map(|word| format!("0x{word}, ")).collect(),
        rows("  ", "  |beef beef|"),
        rows(": ", "  beef beef"),
        rows("  ", "   beef beef"),
    ] {
        assert_eq!(lines(text.as_bytes()), expected, "{text}");
    }
    let (_, outcome) = read(b"dabbc2zz");
    assert!(outcome.is_err());
    let mut output = Vec::new();
    let error = decode::read(&all(), manner(Form::Hex), &b"dabb\nc2zz"[..], &mut output).unwrap_err();
    assert_eq!(error.to_string(), "offset 7: no hexadecimal digits, of which each byte has two");
}

#[test]
fn bytes_that_no_protocol_reads_are_refused_by_naming_all() {
    let (lines, outcome) = read(&[0xff; 100]);
    assert!(lines.is_empty());
    let error = outcome.unwrap_err();
    assert!(
        error.starts_with("offset 0: no known protocol reads this") && error.contains("dubbo"),
        "{error}"
    );
}
