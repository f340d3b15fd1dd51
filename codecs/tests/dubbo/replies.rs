use meltemi_codecs::dubbo::message::{Answer, read_answer};
use meltemi_codecs::{Codec, Dubbo, Failure, Kind, Outcome, Peer};

use super::{all_vectors, frame, vector};

const FAILURES: [(Failure, u8, &str); 10] = [
    (Failure::BadRequest, 40, "BAD_REQUEST"),
    (Failure::NoRoute, 60, "SERVICE_NOT_FOUND"),
    (Failure::NoEndpoint, 80, "SERVER_ERROR"),
    (Failure::ConnectionLost, 80, "SERVER_ERROR"),
    (Failure::BadResponse, 50, "BAD_RESPONSE"),
    (Failure::Timeout, 31, "SERVER_TIMEOUT"),
    (Failure::Overloaded, 100, "SERVER_THREADPOOL_EXHAUSTED_ERROR"),
    (Failure::RateLimited, 100, "SERVER_THREADPOOL_EXHAUSTED_ERROR"),
    (Failure::Denied, 70, "SERVICE_ERROR"),
    (Failure::Fault, 70, "SERVICE_ERROR"),
];

#[test]
fn a_failure_is_a_response_with_a_status_and_a_text() {
    for vector in all_vectors() {
        for (failure, status, name) in FAILURES {
            let request = frame(vector.from, &vector.bytes);
            let mut out = Vec::new();
            Dubbo.error_reply(&vector.bytes[..request.head], failure, "no route: é😀", &mut out);
            let reply = frame(Peer::Server, &out);
            assert_eq!((reply.id, reply.len), (request.id, out.len()));
            assert_eq!(reply.kind, Kind::Response(Outcome::Error(status.into())));
            let text = "no route: é😀".into();
            assert_eq!(read_answer(&out).unwrap(), Answer::Error { status, text });
            assert_eq!(Dubbo.status_name(status.into()), Some(name));
            assert_eq!(Dubbo.status_code(name), Some(status.into()));
        }
    }
    assert_eq!(Dubbo.status_name(19), None);
    assert_eq!(Dubbo.status_code("ok"), None);
}

#[test]
fn heartbeats_are_answered_as_servers_answer_them() {
    for (heartbeat, answer) in [
        ("java-2.7.23/hb-heartbeat.c2s.id1.event-req", "java-2.7.23/hb-heartbeat.s2c.id1.event-resp"),
        (
            "java-3.3.5/fastjson2-heartbeat.c2s.id6967182592993628469.event-req",
            "java-3.3.5/fastjson2-heartbeat.s2c.id6967182592993628469.event-resp",
        ),
    ] {
        let mut out = Vec::new();
        Dubbo.heartbeat_reply(&vector(heartbeat).bytes, &mut out);
        assert_eq!(out, vector(answer).bytes);
    }
}

#[test]
fn a_server_that_drains_says_so_as_java_does() {
    let mut out = Vec::new();
    Dubbo.drain_notice(&mut out);
    assert_eq!(out, vector("java-2.7.23/readonly-event.s2c.id0.event-req-oneway").bytes);
    assert_eq!(frame(Peer::Server, &out).kind, Kind::Drain);
    assert_eq!(frame(Peer::Client, &out).kind, Kind::Event);
}

#[test]
fn events_of_every_serialization_are_told_apart() {
    let kind = |flags: u8, body: &[u8]| {
        let mut bytes = vec![0xda, 0xbb, flags, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0];
        bytes.push(u8::try_from(body.len()).unwrap());
        bytes.extend_from_slice(body);
        frame(Peer::Server, &bytes).kind
    };
    for (flags, body, expected) in [
        (0xe2, &b"N"[..], Kind::HeartbeatRequest),
        (0xe2, b"", Kind::HeartbeatRequest),
        (0xa2, b"N", Kind::HeartbeatResponse),
        (0xa2, b"\x01R", Kind::Drain),
        (0xa2, b"\x01W", Kind::Event),
        (0xe2, b"\x01X", Kind::Event),
        (0xe2, b"\x99", Kind::Event),
        (0x22, b"N", Kind::HeartbeatResponse),
        (0xf7, b"\0\0\0\x01\xaf", Kind::HeartbeatRequest),
        (0xb7, b"\0\0\0\x02JR", Kind::Drain),
        (0xe6, b"null\n", Kind::HeartbeatRequest),
        (0xf5, b"\"H\"\n", Kind::HeartbeatRequest),
        (0xa6, b"\"R\"\r\n", Kind::Drain),
        (0xe3, b"\xac\xed\0\x05p", Kind::HeartbeatRequest),
        (0xbf, b"", Kind::HeartbeatResponse),
    ] {
        assert_eq!(kind(flags, body), expected, "{flags:x} {body:?}");
    }
}
