use std::fs;

use meltemi_codecs::fuzz::fuzz_front;
use meltemi_codecs::{Brpc, Codec, Depth, Failure, Frame, Head, Kind, Outcome, Peer, Step};

use super::{Entry, FOLDERS, LIMIT, Meta, echo, entries, frame, head, read, vectors, vectors_of, written};

#[test]
fn frames_are_as_their_index_says() {
    for folder in FOLDERS {
        let index = fs::read_to_string(format!("vectors/brpc/{folder}/index.tsv")).unwrap();
        let vectors = vectors_of(folder);
        assert_eq!(index.lines().count(), vectors.len());
        for line in index.lines() {
            let file = line.split('\t').next().unwrap();
            let field = |name: &str| {
                let mut fields = line.split('\t');
                fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).unwrap()
            };
            let vector = vectors.iter().find(|vector| format!("{}.bin", vector.name) == file).unwrap();
            let found = frame(vector.from, &vector.bytes);
            let told = (found.len.to_string(), found.id.to_string());
            assert_eq!(told, (field("len").to_owned(), field("id").to_owned()), "{folder} {file}");
            let (meta, body) = read(&vector.bytes);
            assert_eq!(meta.compress_type.unwrap_or(0).to_string(), field("compress"), "{file}");
            assert_eq!(meta.attachment_size.unwrap_or(0).to_string(), field("attachment"), "{file}");
            assert!(body.len() >= field("attachment").parse().unwrap(), "{file}");
            if vector.from == Peer::Server {
                let outcome = match field("error_code") {
                    "0" => Outcome::Success,
                    // No number of Apache brpc's own: the service gave it.
                    "10001" => Outcome::Exception,
                    code => Outcome::Error(code.parse().unwrap()),
                };
                assert_eq!(found.kind, Kind::Response(outcome), "{folder} {file}");
                let mut head = Head::new();
                Brpc.response_head(&vector.bytes, &mut head).unwrap();
                assert_eq!(head.get("error").unwrap_or_default(), field("error_text"), "{folder} {file}");
                continue;
            }
            assert_eq!(found.kind, Kind::Request, "{folder} {file}");
            let read = head(&vector.bytes, Depth::Head).unwrap();
            let get = |name: &str| {
                read.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value).to_owned()
            };
            let log_id = if get("logId").is_empty() { "0".to_owned() } else { get("logId") };
            assert_eq!(
                [get("service"), get("method"), log_id],
                ["service", "method", "log_id"].map(field),
                "{folder} {file}"
            );
        }
    }
}

#[test]
fn fields_that_brpc_java_wrote_are_attributes() {
    let vectors = vectors_of("brpc-java-3.0.5");
    let fields = |name: &str| {
        let vector = vectors.iter().find(|vector| vector.name == name).unwrap();
        let read = head(&vector.bytes, Depth::Attachments).unwrap();
        let mut read: Vec<_> = read.into_iter().filter(|(name, _)| name.starts_with("x-")).collect();
        read.sort();
        read
    };
    assert_eq!(fields("02-call.req"), entries(&[("x-lane", "gray"), ("x-user", "\u{4f60}")]));
    assert_eq!(fields("00-call.req"), []);
}

#[test]
fn what_answers_need_ends_with_the_id() {
    for vector in vectors() {
        let found = frame(vector.from, &vector.bytes);
        assert!(found.head <= found.len && found.head < 96 + 12, "{}: {found:?}", vector.name);
        if found.kind == Kind::Request {
            let (mut whole, mut front) = (Vec::new(), Vec::new());
            Brpc.error_reply(&vector.bytes, Failure::Timeout, "x", &mut whole);
            Brpc.error_reply(&vector.bytes[..found.head], Failure::Timeout, "x", &mut front);
            assert_eq!(whole, front, "{}", vector.name);
        }
    }
}

#[test]
fn fields_and_entries_are_attributes() {
    let mut meta = echo();
    let request = meta.request.as_mut().unwrap();
    request.log_id = Some(-3);
    request.trace_id = Some(1 << 40);
    request.span_id = Some(2);
    request.parent_span_id = Some(0);
    request.timeout_ms = Some(500);
    request.seventh.push(b"req-42".to_vec());
    meta.user_fields.insert("x-lane".to_owned(), "é😀".to_owned());
    let own = [
        ("service", "example.EchoService"),
        ("method", "Echo"),
        ("logId", "-3"),
        ("traceId", "1099511627776"),
        ("spanId", "2"),
        ("parentSpanId", "0"),
        ("requestId", "req-42"),
        ("timeoutMs", "500"),
    ];
    let bytes = written(&meta, b"body");
    assert_eq!(head(&bytes, Depth::Head).unwrap(), entries(&own));
    let all = entries(&[&own[..], &[("x-lane", "é😀")]].concat());
    assert_eq!(head(&bytes, Depth::Attachments).unwrap(), all);
    assert_eq!(head(&bytes, Depth::Verified).unwrap(), all);
    assert!(own.iter().all(|(name, _)| Brpc.depth(name) == Depth::Head));
    assert_eq!(Brpc.depth("x-lane"), Depth::Attachments);
}

#[test]
fn the_entries_of_brpc_java_are_not_a_request_id() {
    let mut meta = echo();
    meta.request.as_mut().unwrap().seventh = vec![Entry::encoded("x-lane", "gray"), Entry::encoded("b", "")];
    let own = entries(&[("service", "example.EchoService"), ("method", "Echo")]);
    let bytes = written(&meta, &[]);
    assert_eq!(head(&bytes, Depth::Head).unwrap(), own);
    let all = [own, entries(&[("x-lane", "gray"), ("b", "")])].concat();
    assert_eq!(head(&bytes, Depth::Attachments).unwrap(), all);
    assert_eq!(head(&bytes, Depth::Verified).unwrap(), all);
}

#[test]
fn a_stream_is_told_from_a_call() {
    let meta = Meta { stream_settings: Some(vec![8, 1]), ..echo() };
    let bytes = written(&meta, &[]);
    let Kind::Refused(why) = frame(Peer::Client, &bytes).kind else { panic!() };
    assert!(why.contains("stream"), "{why}");
}

/// Where to cut a frame: everywhere in a small one, around the edges and every so often in a large one.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = (len / 128).max(1);
    (0..len).filter(move |at| at % step == 0 || *at < 128 || len - at < 16)
}

#[test]
fn a_cut_frame_needs_more_and_then_is_the_same() {
    for vector in vectors() {
        let whole = frame(vector.from, &vector.bytes);
        assert_eq!(whole.len, vector.bytes.len(), "{}", vector.name);
        for cut in cuts(vector.bytes.len()) {
            match Brpc.split(vector.from, &vector.bytes[..cut], LIMIT).unwrap() {
                Step::NeedMore { at_least } => {
                    assert!(cut < at_least && at_least <= whole.len, "{} at {cut}", vector.name);
                }
                other @ Step::Frame(_) => panic!("{} at {cut}: {other:?}", vector.name),
            }
        }
        let mut two = vector.bytes.clone();
        two.extend_from_slice(&vector.bytes);
        assert_eq!(frame(vector.from, &two), whole);
    }
}

#[test]
fn a_server_that_says_nothing_of_success_succeeded() {
    let bytes = written(&Meta { correlation_id: Some(3), ..Meta::default() }, b"x");
    let expected = Frame { len: bytes.len(), head: 14, kind: Kind::Response(Outcome::Success), id: 3 };
    assert_eq!(frame(Peer::Server, &bytes), expected);
}

#[test]
fn what_a_front_says_holds_for_the_whole() {
    let (mut requests, mut responses) = (0, 0);
    for vector in vectors() {
        let fronts = fuzz_front(&Brpc, vector.from, &vector.bytes);
        match frame(vector.from, &vector.bytes).kind {
            Kind::Request | Kind::OneWay => requests += fronts,
            Kind::Response(_) => responses += fronts,
            _ => {}
        }
    }
    assert!(requests > 10 && responses > 10, "{requests} and {responses} fronts");
}
