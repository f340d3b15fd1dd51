use meltemi_codecs::fuzz::fuzz_brpc;
use meltemi_codecs::{Brpc, Codec, Depth, Error, Failure, Peer};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::{Entry, LIMIT, Meta, Request, echo, head, vector, written};

fn split_error(bytes: &[u8]) -> Error {
    Brpc.split(Peer::Client, bytes, LIMIT).unwrap_err()
}

#[test]
fn lengths_that_lie_are_told_at_once() {
    let malformed = |what, offset| Error::Malformed { what, offset };
    assert_eq!(split_error(b"PRPX"), malformed("magic", 3));
    assert_eq!(split_error(b"G"), malformed("magic", 0));
    // A meta that is longer than all.
    assert_eq!(split_error(b"PRPC\0\0\0\x01\0\0\0\x02"), malformed("meta length", 8));
    let size = u64::from(u32::MAX) + 12;
    assert_eq!(
        split_error(b"PRPC\xff\xff\xff\xff\0\0\0\x02"),
        Error::TooLarge { what: "frame", size, limit: LIMIT }
    );
    let error = split_error(b"PRPC\0\x02\0\0\0\x01\0\x01");
    assert_eq!(error, Error::TooLarge { what: "meta", size: 65537, limit: 65536 });
    // A field that goes past the meta's end, though the body has as many bytes.
    assert_eq!(split_error(b"PRPC\0\0\0\x06\0\0\0\x02\x0a\x04abcd"), malformed("protobuf field", 12));
    // One in a response.
    let error = Brpc.split(Peer::Server, b"PRPC\0\0\0\x04\0\0\0\x04\x12\x02\x12\x04", LIMIT);
    assert_eq!(error, Err(malformed("protobuf field", 14)));
}

#[test]
fn a_request_that_cannot_be_read_is_answered() {
    // A service whose length is over the request's; the id follows.
    let bytes = b"PRPC\0\0\0\x06\0\0\0\x06\x0a\x02\x0a\x04\x20\x07";
    let error = head(bytes, Depth::Head).unwrap_err();
    assert_eq!(error, Error::Malformed { what: "protobuf field", offset: 14 });
    let mut out = Vec::new();
    Brpc.error_reply(bytes, Failure::BadRequest, "x", &mut out);
    assert_eq!(super::frame(Peer::Server, &out).id, 7);
}

#[test]
fn an_answer_names_no_id_that_was_not_read() {
    let echo = vector("00-echo.req");
    for cut in 0..echo.bytes.len() {
        let mut out = Vec::new();
        Brpc.error_reply(&echo.bytes[..cut], Failure::BadRequest, "x", &mut out);
        if !out.is_empty() {
            let id = super::frame(Peer::Server, &echo.bytes).id;
            assert_eq!(super::frame(Peer::Server, &out).id, id, "{cut}");
        }
    }
}

#[test]
fn what_servers_may_understand_otherwise_is_not_verified() {
    let refused = |bytes: &[u8]| {
        assert!(matches!(head(bytes, Depth::Verified), Err(Error::Unsupported { .. })), "{bytes:?}");
        head(bytes, Depth::Attachments).unwrap();
    };
    let named = |service: &str, method: &str| {
        let names = (Some(service.to_owned()), Some(method.to_owned()));
        let request = Request { service_name: names.0, method_name: names.1, ..Request::default() };
        written(&Meta { request: Some(request), ..echo() }, &[])
    };
    assert!(head(&named("a.B", "c"), Depth::Verified).is_ok());
    // Servers look for `a.B.c`, and for a service of any package.
    refused(&named("a", "B.c"));
    refused(&named("a.B", "c.d"));
    refused(&named("B", "c"));
    refused(&written(&Meta { request: None, ..echo() }, &[]));

    // Messages that come twice are put together, and of a number that comes twice the last counts.
    let twice = |first: &[u8], second: &[u8]| {
        let meta = [first, second].concat();
        let len = u32::try_from(meta.len()).unwrap().to_be_bytes();
        [b"PRPC", &len[..], &len, &meta].concat()
    };
    let other = Request { method_name: Some("Other".to_owned()), ..Request::default() };
    let other = Meta { request: Some(other), ..Meta::default() };
    let both = twice(&echo().encode_to_vec(), &other.encode_to_vec());
    refused(&both);
    assert_eq!(head(&both, Depth::Head).unwrap()[1].1, "Other");
    let mut user = Meta::default();
    user.user_fields.insert("k".to_owned(), "1".to_owned());
    refused(&twice(&twice(&echo().encode_to_vec(), &user.encode_to_vec())[12..], &user.encode_to_vec()));
    let mut meta = echo();
    meta.request.as_mut().unwrap().seventh = vec![Entry::encoded("k", "1"), Entry::encoded("k", "2")];
    refused(&written(&meta, &[]));
    // What brpc-java reads as entries, though it does not look like one.
    let entry = Entry::encoded("k", "1");
    for spoilt in [[&entry[..], b"\x10\x00"].concat(), [b"\x18\x00", &entry[..]].concat()] {
        meta.request.as_mut().unwrap().seventh = vec![spoilt];
        refused(&written(&meta, &[]));
    }
    // More than are kept.
    let mut meta = echo();
    meta.user_fields = (0..256).map(|number| (format!("x{number}"), String::new())).collect();
    assert!(head(&written(&meta, &[]), Depth::Verified).is_ok());
    meta.user_fields.insert("k".to_owned(), String::new());
    refused(&written(&meta, &[]));
    // No text.
    let mut bytes = named("a.B", "c");
    let at = bytes.iter().position(|byte| *byte == b'B').unwrap();
    bytes[at] = 0xff;
    refused(&bytes);
}

/// Frames of many fields, cut, repeated and spoilt.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof!["[a-z.]{0,9}", any::<String>(), Just("path".to_owned())];
    let user = proptest::collection::hash_map(text.clone(), any::<String>(), 0..4);
    let seventh = vec(
        prop_oneof![
            (text.clone(), any::<String>()).prop_map(|(key, value)| Entry::encoded(&key, &value)),
            vec(any::<u8>(), 0..9)
        ],
        0..4,
    );
    let id = proptest::option::of(any::<i64>());
    let meta =
        (text.clone(), text, seventh, user, id).prop_map(|(service, method, seventh, user_fields, id)| {
            let (service_name, method_name) = (Some(service), Some(method));
            let request = Some(Request { service_name, method_name, seventh, ..Request::default() });
            Meta { request, user_fields, correlation_id: id, ..Meta::default() }
        });
    let twice = (vec(meta, 1..3), vec(any::<u8>(), 0..9));
    (twice, vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(|((metas, body), spoilt)| {
        let mut bytes: Vec<u8> = metas.iter().flat_map(Message::encode_to_vec).collect();
        for (at, byte) in spoilt {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let meta = u32::try_from(bytes.len()).unwrap();
        bytes.extend_from_slice(&body);
        let len = u32::try_from(bytes.len()).unwrap();
        [b"PRPC", &len.to_be_bytes()[..], &meta.to_be_bytes(), &bytes].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_keeps_every_promise(bytes in frames()) {
        fuzz_brpc(&bytes);
    }
}
