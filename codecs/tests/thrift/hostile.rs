use std::time::{Duration, Instant};

use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Codec, Depth, Error, Head, Peer, Step, Thrift};
use proptest::prelude::*;

use super::{LIMIT, PROTOCOLS, TRANSPORTS, calls, entries, frame, pairs, vector, written};

fn split(bytes: &[u8]) -> Result<Step, Error> {
    Thrift.split(Peer::Client, bytes, LIMIT)
}

/// An unframed call whose struct of arguments has these bytes.
fn call(protocol: Protocol, arguments: &[u8]) -> Vec<u8> {
    let front: &[u8] = match protocol {
        Protocol::Binary => b"\x80\x01\0\x01\0\0\0\x01m\0\0\0\x07",
        Protocol::OldBinary => b"\0\0\0\x01m\x01\0\0\0\x07",
        Protocol::Compact => b"\x82\x21\x07\x01m",
    };
    [front, arguments].concat()
}

#[test]
fn every_type_is_passed_over() {
    for (protocol, arguments) in [
        (
            Protocol::Binary,
            &b"\x02\0\x01\x01\x03\0\x02\x7f\x06\0\x03\0\0\x08\0\x04\0\0\0\0\x0a\0\x05\0\0\0\0\0\0\0\0\0"[..],
        ),
        (Protocol::Binary, b"\x04\0\x01\0\0\0\0\0\0\0\0\x10\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        // A map of strings to lists of structs, an empty map, a set of strings.
        (Protocol::OldBinary, b"\x0d\0\x01\x0b\x0f\0\0\0\x01\0\0\0\x01k\x0c\0\0\0\x02\0\x02\0\x01\x01\0\0"),
        (Protocol::Binary, b"\x0d\0\x01\0\0\0\0\0\0\x0e\0\x02\x0b\0\0\0\x02\0\0\0\0\0\0\0\x01x\0"),
        (
            Protocol::Compact,
            b"\x11\x12\x13\x7f\x14\x80\x01\x15\x00\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0",
        ),
        (Protocol::Compact, b"\x17\0\0\0\0\0\0\0\0\x1d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\x08\x02\0"),
        (Protocol::Compact, b"\x19\x21\x01\x02\x1a\xf8\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (Protocol::Compact, b"\x1b\0\x1b\x02\x89\x01k\x1c\0\x01l\x2c\0\0\0"),
        (Protocol::Compact, b"\x1c\x1c\x1c\0\0\0\0"),
    ] {
        let bytes = call(protocol, arguments);
        for cut in 0..bytes.len() {
            let step = split(&bytes[..cut]);
            assert!(
                matches!(step, Ok(Step::NeedMore { at_least }) if at_least > cut && at_least <= bytes.len()),
                "{protocol:?} {arguments:?} at {cut}: {step:?}"
            );
        }
        assert_eq!(frame(Peer::Client, &bytes).len, bytes.len(), "{protocol:?} {arguments:?}");
    }
}

#[test]
fn broken_messages_are_told_with_their_offset() {
    let framed = |payload: &[u8]| [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat();
    for (bytes, what, offset) in [
        (b"\xff".to_vec(), "first byte", 0),
        (b"GET / HTTP/1.1".to_vec(), "message", 4),
        (b"\0\0\0\0\x80".to_vec(), "length of frame", 0),
        (b"\0\0\0\x04\x0f\xfe\0\0".to_vec(), "magic", 4),
        (b"\x80\x02\0\x01".to_vec(), "version", 0),
        (b"\x80\x01\0\x05\0\0\0\0\0\0\0\0".to_vec(), "type of message", 0),
        (framed(b"\x80\x01\0\x01\0\0\0\x09m"), "message", 13),
        (framed(&call(Protocol::Binary, b"\x0b\0\x01\0\0\0\x09x")), "end of frame", 25),
        (framed(&call(Protocol::Binary, b"\0\0")), "end of message", 18),
        (framed(&call(Protocol::Compact, b"\x18\xff\xff\xff\xff\xff")), "number", 10),
        (call(Protocol::Binary, b"\x11\0\x01"), "type of value", 16),
        (call(Protocol::Compact, b"\x19\x1e\0"), "type of value", 6),
        (call(Protocol::Compact, b"\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "number", 6),
        (b"\0\0\0\x0b\x0f\xff\0\0\0\0\0\0\0\x09\0".to_vec(), "length of headers", 12),
    ] {
        assert_eq!(split(&bytes), Err(Error::Malformed { what, offset }), "{bytes:?}");
    }
}

/// Two messages in one frame: a server would carry out the second unseen, and its answer be taken for another's.
#[test]
fn nothing_hides_behind_a_message() {
    for call in calls("allowed") {
        let bytes = written(&call);
        let hidden =
            written(&Message { transport: Transport::Unframed, is_compressed: false, ..call.clone() });
        if call.is_compressed || call.transport == Transport::Unframed {
            continue;
        }
        for from in [Peer::Client, Peer::Server] {
            let mut both = [bytes.clone(), hidden.clone()].concat();
            let len = u32::try_from(both.len() - 4).unwrap();
            both[..4].copy_from_slice(&len.to_be_bytes());
            if let Transport::TtHeader { framed: true } = call.transport {
                both[18..22].copy_from_slice(&(len - 18).to_be_bytes());
            }
            let refused = Err(Error::Malformed { what: "end of message", offset: bytes.len() });
            assert_eq!(Thrift.split(from, &both, LIMIT), refused, "{call:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_guessed() {
    let call = vector("python-0.25.0/header-binary.00-sayHello.req").bytes;
    for (at, byte, what) in [(14, 5, "protocol of THeader"), (15, 2, "transform")] {
        let mut bytes = call.clone();
        bytes[at] = byte;
        assert!(matches!(split(&bytes), Err(Error::Unsupported { what: found, .. }) if found == what));
    }
    // The header says compact, the message is binary.
    let mut bytes = call;
    bytes[14] = 2;
    assert!(matches!(split(&bytes), Err(Error::Malformed { what: "protocol of message", .. })));
}

#[test]
fn lengths_meet_their_limits_before_they_are_believed() {
    let limit = |bytes: &[u8]| match Thrift.split(Peer::Client, bytes, 1000) {
        Err(Error::TooLarge { what, size, limit }) => (what, size, limit),
        other => panic!("{other:?}"),
    };
    let list = call(Protocol::Binary, b"\x0f\0\x01\x0b\x7f\xff\xff\xff");
    assert_eq!(limit(&list).0, "message");
    assert_eq!(limit(&call(Protocol::Compact, b"\x1b\xff\xff\xff\xff\x0f\x88")).0, "message");
    assert_eq!(limit(&call(Protocol::Binary, b"\x0b\0\x01\0\0\x04\0")).0, "message");
    assert_eq!(limit(b"\x82\x21\x07\x81\x08"), ("name of a message", 1025, 1024));
    let mut framed = written(&calls("sayHello")[3]);
    framed[..4].copy_from_slice(&1001_u32.to_be_bytes());
    assert_eq!(limit(&framed), ("frame", 1005, 1000));
    // It is waited for as far as an answer needs.
    let cut = Thrift.split(Peer::Client, &framed[..10], 1000);
    assert_eq!(cut, Ok(Step::NeedMore { at_least: 12 }));
}

#[test]
fn what_a_message_inflates_to_meets_the_limit_of_a_frame() {
    // A thousandth of what it says: zeros, deflated by Python's zlib.
    let bomb = include_bytes!("bomb.bin");
    assert!(bomb.len() < 2000);
    assert_eq!(
        Thrift.split(Peer::Client, bomb, 100_000),
        Err(Error::TooLarge { what: "inflated message", size: 100_001, limit: 100_000 })
    );
    assert_eq!(frame(Peer::Client, bomb).len, bomb.len());
    let call = Message { is_compressed: true, ..calls("sayHello")[6].clone() };
    let mut bytes = written(&call);
    assert!(call.transport == Transport::THeader && split(&bytes).is_ok());
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(split(&bytes), Err(Error::Malformed { what: "compressed message", offset: 18 }));
}

#[test]
fn depth_is_limited() {
    for (depth, is_known) in [(63, true), (64, false)] {
        let bytes = call(Protocol::Compact, &[b"\x1c".repeat(depth), b"\0".repeat(depth + 1)].concat());
        let unsupported = matches!(split(&bytes), Err(Error::Unsupported { what: "depth of values", .. }));
        assert_eq!(unsupported, !is_known, "{depth}");
        assert_eq!(split(&bytes).is_ok(), is_known);
    }
}

/// A message that comes byte by byte is walked anew each time: how much of it is bounded, and what is known to be
/// missing is not looked at again.
#[test]
fn an_unframed_message_is_not_walked_without_end() {
    let list = |count: u32| {
        let item = b"\x15\x02\x18\x03abc\x11\0";
        let mut size = vec![0x19, 0xfc];
        let mut left = count;
        while left >= 0x80 {
            size.push(left as u8 | 0x80);
            left >>= 7;
        }
        size.push(left as u8);
        call(Protocol::Compact, &[size, item.repeat(count as usize), b"\0".to_vec()].concat())
    };
    let bytes = list(20_000);
    let (mut have, mut calls) = (1, 0);
    while let Step::NeedMore { at_least } = split(&bytes[..have]).unwrap() {
        have = at_least;
        calls += 1;
    }
    assert_eq!(have, bytes.len());
    assert!(calls < 300, "{calls} looks at 20000 structs");
    assert!(matches!(split(&list(100_000)), Err(Error::Unsupported { what: "number of values", .. })));
    // A length in front needs no such limit.
    let framed = list(100_000);
    let framed = [&u32::try_from(framed.len()).unwrap().to_be_bytes()[..], &framed].concat();
    let start = Instant::now();
    assert_eq!(frame(Peer::Client, &framed).len, framed.len());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_call_to_be_denied_by_says_one_thing() {
    let read = |headers: &[(&str, &str)], name| {
        let call = Message { headers: pairs(headers), ..calls(name).pop().unwrap() };
        assert!(matches!(call.transport, Transport::TtHeader { .. }));
        let mut head = Head::new();
        Thrift.head(&written(&call), Depth::Attachments, &mut head).unwrap();
        Thrift.head(&written(&call), Depth::Verified, &mut head).err()
    };
    assert_eq!(read(&[("toMethod", "m"), ("isn", "S"), ("a", "1")], "S:m"), None);
    assert_eq!(read(&[("toService", "cluster"), ("isn", "S")], "m"), None);
    let refused = |what| Some(Error::Unsupported { what, offset: 16 });
    assert_eq!(read(&[("toMethod", "other")], "m"), refused("header with the method"));
    assert_eq!(read(&[("isn", "T")], "S:m"), refused("header with the service"));
    let repeated = [("a", "1"), ("a", "2")];
    assert_eq!(read(&repeated, "m"), refused("header that is repeated, or no text"));
    // Apache's server for C++ takes all of these for `S:m`, or for the `m` of its own.
    for name in ["S::m", ":S:m", "S:m:", ":m", "m:", "::m"] {
        let refused = read(&[], name);
        assert!(matches!(refused, Some(Error::Unsupported { what: "colons in the name", .. })), "{name}");
    }
}

#[test]
fn no_header_passes_for_the_service() {
    for call in calls("m")
        .into_iter()
        .filter(|call| !matches!(call.transport, Transport::Framed | Transport::Unframed))
    {
        let call = Message { headers: pairs(&[("service", "S"), ("method", "other"), ("a", "1")]), ..call };
        for depth in [Depth::Attachments, Depth::Verified] {
            let mut head = Head::new();
            Thrift.head(&written(&call), depth, &mut head).unwrap();
            assert_eq!(entries(&head), pairs(&[("method", "m"), ("a", "1")]));
        }
    }
}

#[test]
fn headers_are_limited_in_number() {
    for (count, is_refused) in [(256, false), (257, true)] {
        let headers: Vec<_> = (0..count).map(|number| (format!("x{number}"), String::new())).collect();
        for transport in [Transport::THeader, Transport::TtHeader { framed: false }] {
            let content = Content::Call(b"x".into());
            let call = Message::new(transport, Protocol::Binary, 1, "m", content);
            let call = Message { headers: headers.clone(), ..call };
            let read = Thrift.head(&written(&call), Depth::Attachments, &mut Head::new());
            assert_eq!(
                matches!(read, Err(Error::Unsupported { what: "number of attachments", .. })),
                is_refused
            );
            assert_eq!(read.is_err(), is_refused);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_comes_back(
        which in 0..TRANSPORTS.len(),
        protocol in 0..PROTOCOLS.len(),
        id in any::<u32>(),
        name in "[a-zA-Z_][a-zA-Z0-9_.]{0,100}",
        argument in proptest::collection::vec(any::<u8>(), 0..2000),
        headers in proptest::collection::btree_map("[a-z]{1,4}", any::<String>(), 0..8),
    ) {
        let (transport, is_compressed) = TRANSPORTS[which];
        let has_headers = !matches!(transport, Transport::Unframed | Transport::Framed);
        let is_kitex = matches!(transport, Transport::TtHeader { .. });
        let protocol = if is_kitex { Protocol::Binary } else { PROTOCOLS[protocol] };
        let content = Content::OneWay(argument.into());
        let headers: Vec<_> = headers.into_iter().filter(|_| has_headers).collect();
        let message = Message { headers, is_compressed, ..Message::new(transport, protocol, id, &name, content) };
        let bytes = written(&message);
        let found = frame(Peer::Client, &bytes);
        prop_assert_eq!((found.len, found.id), (bytes.len(), u64::from(id)));
        prop_assert_eq!(&Message::read(&bytes).unwrap(), &message);
        let mut head = Head::new();
        Thrift.head(&bytes, Depth::Verified, &mut head).unwrap();
        prop_assert_eq!(head.get("method"), Some(name.as_str()));
        let told: Vec<_> = head.attachments().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(told, message.headers);
    }

    #[test]
    fn any_struct_is_read_or_refused(arguments in proptest::collection::vec(any::<u8>(), 0..200)) {
        for protocol in PROTOCOLS {
            let bytes = call(protocol, &arguments);
            match split(&bytes) {
                Ok(Step::Frame(frame)) => prop_assert!(frame.len <= bytes.len()),
                Ok(Step::NeedMore { at_least }) => prop_assert!(at_least > bytes.len()),
                Err(_) => {}
            }
        }
    }
}
