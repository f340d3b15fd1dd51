use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Codec, Failure, Kind, Outcome, Peer, Sharing, Thrift};

use super::{all_vectors, calls, frame, written};

const FAILURES: [(Failure, u32, &str); 10] = [
    (Failure::BadRequest, 7, "PROTOCOL_ERROR"),
    (Failure::NoRoute, 1, "UNKNOWN_METHOD"),
    (Failure::NoEndpoint, 6, "INTERNAL_ERROR"),
    (Failure::ConnectionLost, 6, "INTERNAL_ERROR"),
    (Failure::BadResponse, 7, "PROTOCOL_ERROR"),
    (Failure::Timeout, 6, "INTERNAL_ERROR"),
    (Failure::Overloaded, 6, "INTERNAL_ERROR"),
    (Failure::RateLimited, 6, "INTERNAL_ERROR"),
    (Failure::Denied, 6, "INTERNAL_ERROR"),
    (Failure::Fault, 6, "INTERNAL_ERROR"),
];

#[test]
fn a_failure_is_an_exception_in_the_words_of_the_caller() {
    let requests = all_vectors().filter(|vector| vector.from == Peer::Client).map(|vector| vector.bytes);
    for bytes in requests.chain(calls("Greeter:sayHello").iter().map(written)) {
        let request = frame(Peer::Client, &bytes);
        let call = Message::read(&bytes).unwrap();
        for (failure, status, name) in FAILURES {
            let mut out = b"before".to_vec();
            Thrift.error_reply(&bytes[..request.head], failure, "no route: é😀", &mut out);
            let out = out.strip_prefix(b"before").unwrap();
            let reply = frame(Peer::Server, out);
            assert_eq!((reply.id, reply.len), (request.id, out.len()));
            assert_eq!(reply.kind, Kind::Response(Outcome::Error(status)));
            let content = Content::Error { status, text: "no route: é😀".into() };
            let expected = Message { headers: vec![], is_compressed: false, content, ..call.clone() };
            assert_eq!(Message::read(out).unwrap(), expected);
            assert_eq!(Thrift.status_name(status), Some(name));
            assert_eq!(Thrift.status_code(name), Some(status));
        }
    }
    assert_eq!(Thrift.status_name(11), None);
    assert_eq!(Thrift.status_code("internal_error"), None);
}

#[test]
fn a_request_is_answered_once_its_name_and_id_have_come() {
    for call in calls("sayHello") {
        let bytes = written(&call);
        let head = frame(Peer::Client, &bytes).head;
        for cut in 0..head {
            let mut out = Vec::new();
            Thrift.error_reply(&bytes[..cut], Failure::BadRequest, "too large", &mut out);
            assert!(out.is_empty() || call.is_compressed, "{call:?} at {cut}");
            if !out.is_empty() {
                assert_eq!(frame(Peer::Server, &out).id, u64::from(call.id));
            }
        }
    }
}

#[test]
fn nothing_is_said_that_thrift_has_no_words_for() {
    let mut out = Vec::new();
    Thrift.heartbeat_reply(b"", &mut out);
    Thrift.drain_notice(&mut out);
    Thrift.error_reply(b"GET / HTTP/1.1\r\n", Failure::BadRequest, "no", &mut out);
    assert!(out.is_empty());
    assert_eq!((Thrift.sharing(), Thrift.max_id()), (Sharing::InOrder, 0x7fff_ffff));
}

#[test]
fn exceptions_of_any_type_are_told() {
    for call in calls("sayHello") {
        for status in [0, 5, 10, 4711, u32::MAX] {
            let content = Content::Error { status, text: "why".into() };
            let bytes = written(&Message { content, ..call.clone() });
            assert_eq!(frame(Peer::Server, &bytes).kind, Kind::Response(Outcome::Error(status)));
        }
        for (content, outcome) in [
            (Content::Void, Outcome::Success),
            (Content::Value(b"x".into()), Outcome::Success),
            (Content::Exception(b"x".into()), Outcome::Exception),
        ] {
            let bytes = written(&Message { content: content.clone(), ..call.clone() });
            assert_eq!(frame(Peer::Server, &bytes).kind, Kind::Response(outcome));
            assert_eq!(Message::read(&bytes).unwrap().content, content);
        }
    }
}

#[test]
fn kitex_says_in_a_frame_of_its_own_or_in_an_answer_that_a_connection_ends() {
    let transport = Transport::TtHeader { framed: false };
    for (id, content, outcome) in [
        (7, Content::Value(b"text".into()), Some(Outcome::Success)),
        (7, Content::Error { status: 6, text: "no".into() }, Some(Outcome::Error(6))),
        (0, Content::Void, None),
    ] {
        let answer = Message::new(transport, Protocol::Binary, id, "sayHello", content);
        let with = |value: &str| {
            let headers = vec![("crrst".to_owned(), value.to_owned())];
            frame(Peer::Server, &written(&Message { headers, ..answer.clone() })).kind
        };
        assert_eq!(with("1"), outcome.map_or(Kind::Drain, Kind::Last));
        assert_eq!(with(""), Kind::Response(outcome.unwrap_or(Outcome::Success)));
    }
}
