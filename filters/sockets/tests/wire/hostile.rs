//! Peers that break the protocol. The connection or the stream is lost, as RFC 9113 says, and nothing else.

use meltemi_sockets::{Code, Event, Options, Side};

use crate::raw::*;

type Fields<'a> = [(&'a str, &'a str)];

/// What breaks the connection to a side whose peer has said hello: why, input, code.
fn common() -> Vec<(&'static str, Vec<u8>, Code)> {
    use Code::*;
    vec![
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, ""), ProtocolError),
        ("SETTINGS of a wrong length", frame(SETTINGS, 0, 0, [0; 5]), FrameSizeError),
        ("an ACK with a payload", frame(SETTINGS, ACK, 0, [0; 6]), FrameSizeError),
        ("an ACK too many", frame(SETTINGS, ACK, 0, ""), ProtocolError),
        ("a push setting out of range", settings(&[(2, 2)]), ProtocolError),
        ("a window out of range", settings(&[(4, 1 << 31)]), FlowControlError),
        ("a frame size too small", settings(&[(5, 16_383)]), ProtocolError),
        ("a frame size too large", settings(&[(5, 1 << 24)]), ProtocolError),
        ("a frame too large", frame(DATA, 0, 1, vec![0; 16_385]), FrameSizeError),
        ("an unknown frame too large", frame(0xbe, 0, 1, vec![0; 16_385]), FrameSizeError),
        ("DATA on no stream", frame(DATA, 0, 0, "x"), ProtocolError),
        ("DATA on an idle stream", frame(DATA, 0, 99, "x"), ProtocolError),
        ("DATA with too much padding", frame(DATA, PADDED, 1, [3, 0, 0]), ProtocolError),
        ("DATA without its pad length", frame(DATA, PADDED, 1, ""), FrameSizeError),
        ("HEADERS on no stream", headers(0, 0, CONNECT), ProtocolError),
        ("HEADERS on an even stream", headers(0, 2, CONNECT), ProtocolError),
        ("HEADERS with too much padding", frame(HEADERS, PADDED | END_HEADERS, 1, [9, 0]), ProtocolError),
        ("HEADERS without its pad length", frame(HEADERS, PADDED | END_HEADERS, 1, ""), FrameSizeError),
        (
            "HEADERS without its priority",
            frame(HEADERS, WITH_PRIORITY | END_HEADERS, 1, [0; 4]),
            FrameSizeError,
        ),
        ("a header block that is none", frame(HEADERS, END_HEADERS, 1, [0x80]), CompressionError),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, ""), ProtocolError),
        (
            "another frame in a header block",
            [frame(HEADERS, 0, 1, ""), frame(PING, 0, 0, [0; 8])].concat(),
            ProtocolError,
        ),
        (
            "an unknown frame in a header block",
            [frame(HEADERS, 0, 1, ""), frame(0xbe, 0, 0, "")].concat(),
            ProtocolError,
        ),
        (
            "another stream in a header block",
            [frame(HEADERS, 0, 1, ""), frame(CONTINUATION, 0, 3, "")].concat(),
            ProtocolError,
        ),
        (
            "a header block too large",
            [frame(HEADERS, 0, 1, vec![0; 16_000]), frame(CONTINUATION, 0, 1, vec![0; 16_000]).repeat(4)]
                .concat(),
            EnhanceYourCalm,
        ),
        (
            "a header block of nothing without end",
            [frame(HEADERS, 0, 1, ""), frame(CONTINUATION, 0, 1, "").repeat(1000)].concat(),
            EnhanceYourCalm,
        ),
        ("PRIORITY on no stream", frame(PRIORITY, 0, 0, [0; 5]), ProtocolError),
        ("PRIORITY of a wrong length", frame(PRIORITY, 0, 1, [0; 4]), FrameSizeError),
        ("RST_STREAM on no stream", number(RST_STREAM, 0, 0), ProtocolError),
        ("RST_STREAM on an idle stream", number(RST_STREAM, 99, 0), ProtocolError),
        ("RST_STREAM of a wrong length", frame(RST_STREAM, 0, 1, [0; 5]), FrameSizeError),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, [0; 4]), ProtocolError),
        ("PING of a wrong length", frame(PING, 0, 0, [0; 7]), FrameSizeError),
        ("PING on a stream", frame(PING, 0, 1, [0; 8]), ProtocolError),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), ProtocolError),
        ("GOAWAY too short", frame(GOAWAY, 0, 0, [0; 7]), FrameSizeError),
        ("WINDOW_UPDATE of nothing", number(WINDOW_UPDATE, 0, 0), ProtocolError),
        ("WINDOW_UPDATE too large", number(WINDOW_UPDATE, 0, 0x7fff_ffff), FlowControlError),
        ("WINDOW_UPDATE on an idle stream", number(WINDOW_UPDATE, 99, 1), ProtocolError),
        ("WINDOW_UPDATE of a wrong length", frame(WINDOW_UPDATE, 0, 0, [0; 3]), FrameSizeError),
        ("PINGs without end", frame(PING, 0, 0, [7; 8]).repeat(10_001), EnhanceYourCalm),
    ]
}

#[test]
fn the_connection_is_lost_with_a_goaway() {
    for side in [Side::Downstream, Side::Upstream] {
        for (why, input, code) in common() {
            let mut raw = Raw::new(Options::default());
            let error = raw.feed(side, &input).expect_err(why);
            assert_eq!((error.side, error.code), (side, code), "{why}: {error}");
            // It stays lost, its last frame is the GOAWAY, and the other side is as it was.
            assert_eq!(raw.feed(side, &frame(PING, 0, 0, [0; 8])), Err(error), "{why}");
            let last = raw.sent(side).pop().unwrap();
            assert_eq!((last.kind, &last.payload[4..]), (GOAWAY, &code.number().to_be_bytes()[..]), "{why}");
            assert_eq!(raw.sent(side), [], "{why}");
            raw.ok(side.other(), &frame(PING, 0, 0, [0; 8]));
        }
    }
}

#[test]
fn a_hello_must_be_right() {
    let cases: &[(Side, &str, Vec<u8>)] = &[
        (Side::Downstream, "another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (Side::Downstream, "a preface with an error in its last byte", [&PREFACE[..23], b"x"].concat()),
        (Side::Downstream, "no SETTINGS", [PREFACE, &frame(PING, 0, 0, [0; 8])].concat()),
        (Side::Downstream, "an unknown frame first", [PREFACE, &frame(0xbe, 0, 0, "")].concat()),
        (Side::Downstream, "an ACK first", [PREFACE, &frame(SETTINGS, ACK, 0, "")].concat()),
        (Side::Upstream, "no SETTINGS", frame(PING, 0, 0, [0; 8])),
        (Side::Upstream, "a preface", PREFACE.to_vec()),
    ];
    for (side, why, input) in cases {
        let mut raw = Raw { sockets: meltemi_sockets::Sockets::new(Options::default()) };
        assert!(raw.feed(*side, input).is_err(), "{why}");
    }
}

#[test]
fn the_role_of_a_side_is_kept() {
    let mut raw = Raw::new(Options::default());
    assert_eq!(raw.feed(Side::Upstream, &settings(&[(2, 1)])).unwrap_err().code, Code::ProtocolError);
    let mut raw = Raw::new(Options::default());
    assert_eq!(raw.feed(Side::Upstream, &headers(0, 1, OK)).unwrap_err().code, Code::ProtocolError);
    let mut raw = Raw::new(Options::default());
    assert_eq!(raw.ok(Side::Downstream, &settings(&[(2, 1)])), []);
}

#[test]
fn a_stream_of_tcp_proxy_is_refused() {
    let large = "v".repeat(100);
    let many: Vec<(&str, &str)> =
        CONNECT.iter().copied().chain((0..500).map(|_| ("x-many", &large[..]))).collect();
    let cases: &[(&str, &Fields<'_>, Code)] = &[
        ("no method", &[(":authority", "demo")], Code::ProtocolError),
        ("no authority", &[(":method", "CONNECT")], Code::ProtocolError),
        (
            "two methods",
            &[(":method", "CONNECT"), (":method", "CONNECT"), (":authority", "a")],
            Code::ProtocolError,
        ),
        ("a response", &[(":status", "200")], Code::ProtocolError),
        (
            "an unknown pseudo-header field",
            &[(":method", "CONNECT"), (":authority", "a"), (":x", "a")],
            Code::ProtocolError,
        ),
        (
            "a pseudo-header field late",
            &[(":method", "CONNECT"), ("x", "a"), (":authority", "a")],
            Code::ProtocolError,
        ),
        ("upper case", &[(":method", "CONNECT"), (":authority", "a"), ("X-Up", "a")], Code::ProtocolError),
        ("an empty name", &[(":method", "CONNECT"), (":authority", "a"), ("", "a")], Code::ProtocolError),
        ("a line break", &[(":method", "CONNECT"), (":authority", "a"), ("x", "a\nb")], Code::ProtocolError),
        ("a list too large", &many, Code::EnhanceYourCalm),
    ];
    for (why, fields, code) in cases {
        let mut raw = Raw::new(Options::default());
        let block = block(fields);
        let mut parts = block.chunks(16_000);
        let mut input = frame(HEADERS, 0, 1, parts.next().unwrap());
        parts.for_each(|part| input.extend(frame(CONTINUATION, 0, 1, part)));
        input.extend(frame(CONTINUATION, END_HEADERS, 1, ""));
        assert_eq!(raw.ok(Side::Downstream, &input), [], "{why}");
        assert_eq!(raw.sent_but_pings(Side::Downstream), [rst(1, *code)], "{why}");
        // The connection goes on.
        raw.accepted(3);
    }
}

#[test]
fn what_is_no_tunnel_is_not_allowed() {
    let mut raw = Raw::new(Options::default());
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "demo"), (":path", "/")];
    assert_eq!(raw.ok(Side::Downstream, &headers(END_STREAM, 1, &get)), []);
    let frames = raw.sent_but_pings(Side::Downstream);
    assert!(
        matches!(&frames[..], [head] if head.flags == END_HEADERS | END_STREAM && head.payload.ends_with(b"405"))
    );
    assert_eq!(raw.ok(Side::Downstream, &headers(0, 3, &get)), []);
    assert_eq!(raw.sent_but_pings(Side::Downstream).pop(), Some(rst(3, Code::NoError)));
}

#[test]
fn limits_on_sockets_and_streams_refuse() {
    for options in [
        Options { max_sockets: 2, ..Options::default() },
        Options { max_concurrent_streams: 2, ..Options::default() },
    ] {
        let mut raw = Raw::new(options);
        let first = raw.accepted(1);
        raw.accepted(3);
        assert_eq!(raw.ok(Side::Downstream, &headers(0, 5, CONNECT)), []);
        assert_eq!(raw.sent_but_pings(Side::Downstream), [rst(5, Code::RefusedStream)]);
        raw.sockets.reset(first);
        raw.accepted(7);
    }
}

#[test]
fn an_open_stream_is_reset() {
    let small = Options { receive_window_downstream: 10, ..Options::default() };
    let cases: &[(&str, Vec<u8>, Code)] = &[
        ("WINDOW_UPDATE of nothing", number(WINDOW_UPDATE, 1, 0), Code::ProtocolError),
        ("WINDOW_UPDATE too large", number(WINDOW_UPDATE, 1, 0x7fff_ffff), Code::FlowControlError),
        ("more DATA than its window", frame(DATA, 0, 1, [0; 11]), Code::FlowControlError),
        ("more padding than its window", frame(DATA, PADDED, 1, [10; 11]), Code::FlowControlError),
        ("trailers that do not end", headers(0, 1, &[("a", "b")]), Code::ProtocolError),
        ("trailers with a pseudo-header field", headers(END_STREAM, 1, CONNECT), Code::ProtocolError),
    ];
    for (why, input, code) in cases {
        let mut raw = Raw::new(small.clone());
        let id = raw.accepted(1);
        let events = raw.ok(Side::Downstream, input);
        assert_eq!(events, [Event::Reset { id, code: code.number() }], "{why}");
        assert!(raw.sent_but_pings(Side::Downstream).contains(&rst(1, *code)), "{why}");
        assert_eq!(raw.ok(Side::Downstream, &frame(DATA, 0, 1, "late")), [], "{why}");
        assert!(raw.sockets.is_idle());
    }
}

#[test]
fn a_stream_that_ended_is_reset_by_more() {
    for input in [frame(DATA, 0, 1, "x"), headers(END_STREAM, 1, &[("a", "b")])] {
        let mut raw = Raw::new(Options::default());
        let id = raw.accepted(1);
        assert_eq!(raw.ok(Side::Downstream, &frame(DATA, END_STREAM, 1, "")), [Event::Ended { id }]);
        let code = Code::StreamClosed;
        assert_eq!(raw.ok(Side::Downstream, &input), [Event::Reset { id, code: code.number() }]);
        assert_eq!(raw.sent_but_pings(Side::Downstream), [rst(1, code)]);
    }
}

#[test]
fn an_answer_of_the_connection_manager_must_be_right() {
    let large = "v".repeat(100);
    let many: Vec<(&str, &str)> =
        OK.iter().copied().chain((0..130).map(|_| ("x-many", &large[..]))).collect();
    let cases: &[(&str, Vec<u8>, Code)] = &[
        ("DATA first", frame(DATA, 0, 1, "x"), Code::ProtocolError),
        ("no status", headers(0, 1, &[("a", "b")]), Code::ProtocolError),
        ("a status in words", headers(0, 1, &[(":status", "fine")]), Code::ProtocolError),
        ("a status too long", headers(0, 1, &[(":status", "0200")]), Code::ProtocolError),
        ("two", headers(0, 1, &[(":status", "200"), (":status", "200")]), Code::ProtocolError),
        ("a request", headers(0, 1, CONNECT), Code::ProtocolError),
        ("an interim response that ends", headers(END_STREAM, 1, &[(":status", "103")]), Code::ProtocolError),
        ("a list too large", headers(0, 1, &many), Code::EnhanceYourCalm),
    ];
    for (why, input, code) in cases {
        let mut raw = Raw::new(Options { max_header_list: 10_000, ..Options::default() });
        let (id, stream) = raw.connecting();
        assert_eq!(stream, 1);
        let events = raw.ok(Side::Upstream, input);
        let refused = Event::Refused { id, status: 0, endpoint: None, reason: String::new() };
        assert_eq!(events, [refused], "{why}");
        assert_eq!(raw.sent_but_pings(Side::Upstream), [rst(1, *code)], "{why}");
        assert!(raw.sockets.is_idle());
    }
}
