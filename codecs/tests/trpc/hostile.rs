use meltemi_codecs::fuzz::fuzz_trpc;
use meltemi_codecs::{Codec, Depth, Error, Failure, Kind, Outcome, Peer, Trpc};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::{Close, Init, InitRequest, InitResponse, LIMIT, Request};
use super::{entries, frame, head, hello, unary, written};

fn split_error(bytes: &[u8]) -> Error {
    Trpc.split(Peer::Client, bytes, LIMIT).unwrap_err()
}

#[test]
fn lengths_that_lie_are_told_at_once() {
    let malformed = |what, offset| Error::Malformed { what, offset };
    let header = |bytes: [u8; 8]| [&[9, 0x30][..], &bytes, &[0; 6]].concat();
    assert_eq!(split_error(&[9, 0x31]), malformed("magic", 1));
    assert_eq!(split_error(b"GET"), malformed("magic", 0));
    assert_eq!(split_error(&header([0, 0, 0, 0, 0, 15, 0, 0])), malformed("length", 4));
    assert_eq!(split_error(&header([0, 0, 0, 0, 0, 17, 0, 2])), malformed("header length", 8));
    let size = u32::MAX.into();
    let error = split_error(&header([0, 0, 0xff, 0xff, 0xff, 0xff, 0, 2]));
    assert_eq!(error, Error::TooLarge { what: "frame", size, limit: LIMIT });
    // An id could not grow any more.
    let error = split_error(&header([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]));
    assert_eq!(error, Error::TooLarge { what: "header", size: 65535, limit: 65519 });
    assert!(matches!(split_error(&header([2, 0, 0, 0, 0, 16, 0, 0])), Error::Unsupported { offset: 2, .. }));
    assert!(matches!(split_error(&header([1, 5, 0, 0, 0, 16, 0, 0])), Error::Unsupported { offset: 3, .. }));
    // A field that goes past the message's end, though the body has as many bytes.
    assert_eq!(split_error(&written([0, 0], 7, b"\x3a\x04", b"abcd")), malformed("protobuf field", 16));
}

#[test]
fn requests_that_name_nothing_are_answered() {
    let nothing = Request { func: Vec::new(), ..hello() };
    let opening = Init { request: None, ..Init::default() }.encode_to_vec();
    for bytes in [unary(&nothing, 7, &[]), written([1, 1], 7, &opening, &[])] {
        let found = frame(Peer::Client, &bytes);
        assert!(matches!(found.kind, Kind::Refused(_)), "{found:?}");
        let mut out = Vec::new();
        Trpc.error_reply(&bytes, Failure::BadRequest, "x", &mut out);
        assert_eq!(frame(Peer::Server, &out).id, 7);
    }
}

#[test]
fn streams_end_as_they_say() {
    let kind = |message: &[u8], stream| frame(Peer::Server, &written([1, stream], 7, message, &[])).kind;
    let close = |close_type, ret, func_ret| {
        kind(&Close { close_type, ret, func_ret, msg: b"why".to_vec() }.encode_to_vec(), 4)
    };
    assert_eq!(close(0, 0, 0), Kind::Ended(Outcome::Success));
    assert_eq!(close(0, 0, 5), Kind::Ended(Outcome::Exception));
    assert_eq!(close(0, 9, 0), Kind::Reset(Outcome::Error(9)));
    assert_eq!(close(1, 9, 5), Kind::Reset(Outcome::Error(9)));
    assert_eq!(close(1, 0, 0), Kind::Reset(Outcome::Exception), "trpc-go's, for what a service returns");
    let opened = |ret| {
        kind(
            &Init { response: Some(InitResponse { ret, ..InitResponse::default() }), ..Init::default() }
                .encode_to_vec(),
            1,
        )
    };
    assert_eq!(opened(0), Kind::Continued);
    assert_eq!(opened(12), Kind::Reset(Outcome::Error(12)));
}

#[test]
fn what_servers_may_understand_otherwise_is_not_verified() {
    let twice = |first: &[u8], second: &[u8]| written([0, 0], 7, &[first, second].concat(), &[]);
    let other = Request { func: b"/a/b".to_vec(), ..Request::default() };
    let mut trans = Request::default();
    trans.trans_info.insert("k".to_owned(), b"1".to_vec());
    let with_trans = Request { trans_info: trans.trans_info.clone(), ..hello() };
    let init = |meta: InitRequest| Init { request: Some(meta), ..Init::default() }.encode_to_vec();
    let opening = init(InitRequest { func: b"/c/d".to_vec(), ..InitRequest::default() });
    let second = init(InitRequest { func: b"/a/b".to_vec(), ..InitRequest::default() });
    for bytes in [
        twice(&hello().encode_to_vec(), &other.encode_to_vec()),
        twice(&with_trans.encode_to_vec(), &trans.encode_to_vec()),
        unary(&Request { func: vec![b'/', 0xff], ..hello() }, 7, &[]),
        written([1, 1], 7, &[opening, second].concat(), &[]),
    ] {
        let strict = head(&bytes, Depth::Verified);
        assert!(matches!(strict, Err(Error::Unsupported { .. })), "{strict:?}");
        // The last one counts.
        let told = head(&bytes, Depth::Attachments).unwrap();
        assert!(
            told.iter().all(|(name, value)| name != "func" || value == "/a/b" || value.contains("Hello"))
        );
    }
}

#[test]
fn nothing_is_left_out_of_what_is_verified() {
    let with = |entries: Vec<(String, Vec<u8>)>| {
        unary(&Request { trans_info: entries.into_iter().collect(), ..hello() }, 7, &[])
    };
    let many = |count| with((0..count).map(|number| (format!("x{number}"), Vec::new())).collect());
    assert!(head(&many(256), Depth::Verified).is_ok());
    let no_text = with(vec![("k".to_owned(), vec![0xff])]);
    for bytes in [many(257), no_text] {
        let strict = head(&bytes, Depth::Verified);
        assert!(matches!(strict, Err(Error::Unsupported { .. })), "{strict:?}");
        head(&bytes, Depth::Attachments).unwrap();
    }
}

#[test]
fn numbers_are_as_wide_as_servers_read_them() {
    // Of 64 bits they take the lower 32.
    let one_way = [hello().encode_to_vec(), b"\x10\x81\x80\x80\x80\x10".to_vec()].concat();
    let bytes = written([0, 0], 7, &one_way, &[]);
    assert_eq!(frame(Peer::Client, &bytes).kind, Kind::OneWay);
    let told = head(&bytes, Depth::Head).unwrap();
    assert!(told.contains(&("callType".to_owned(), "oneway".to_owned())), "{told:?}");
    let close = written([1, 4], 7, b"\x08\x81\x80\x80\x80\x10", &[]);
    assert_eq!(frame(Peer::Client, &close).kind, Kind::Reset(Outcome::Exception));
}

#[test]
fn no_entry_passes_for_what_the_protocol_says() {
    let entry = |key: &str| (key.to_owned(), b"forged".to_vec());
    let names = ["caller", "callee", "service", "messageType", "dyeing", "timeout"];
    let trans_info = names.iter().map(|name| entry(name)).collect();
    let request = Request { func: b"Hello".to_vec(), trans_info, ..Request::default() };
    for depth in [Depth::Attachments, Depth::Verified] {
        let told = head(&unary(&request, 7, &[]), depth).unwrap();
        assert_eq!(told, entries(&[("func", "Hello"), ("method", "Hello"), ("callType", "unary")]));
    }
}

/// Frames of many fields, cut, repeated and spoilt.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof!["[a-z./]{0,9}", any::<String>(), Just("path".to_owned())];
    let entries = proptest::collection::hash_map(text.clone(), vec(any::<u8>(), 0..5), 0..4);
    let request = (text.clone(), text, entries, any::<u32>(), any::<bool>());
    let message = request.prop_map(|(callee, func, trans_info, request_id, is_stream)| {
        let (callee, func) = (callee.into_bytes(), func.into_bytes());
        if is_stream {
            let meta = InitRequest { callee, func, trans_info, ..InitRequest::default() };
            Init { request: Some(meta), ..Init::default() }.encode_to_vec()
        } else {
            Request { callee, func, trans_info, request_id, ..Request::default() }.encode_to_vec()
        }
    });
    let spoilt = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let types = prop_oneof![Just([0, 0]), (1..5_u8).prop_map(|stream| [1, stream])];
    (vec(message, 1..3), vec(any::<u8>(), 0..9), spoilt, types, any::<u32>()).prop_map(
        |(messages, rest, spoilt, types, id)| {
            let mut message = messages.concat();
            for (at, byte) in spoilt {
                if !message.is_empty() {
                    let at = at.index(message.len());
                    message[at] = byte;
                }
            }
            written(types, id, &message, &rest)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_keeps_every_promise(bytes in frames()) {
        fuzz_trpc(&bytes);
    }
}
