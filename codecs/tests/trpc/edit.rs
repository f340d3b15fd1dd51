use std::collections::HashMap;

use meltemi_codecs::{Action, Change, Codec, Edit, Error, Failure, Kind, Outcome, Peer, Trpc};
use prost::Message;

use super::{
    Close, Init, InitRequest, InitResponse, Request, Response, all_vectors, changes, frame, hello, read,
    unary, vector, written,
};

fn rewritten(bytes: &[u8], edit: &Edit<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    Trpc.rewrite(bytes, edit, &mut out).unwrap();
    out.split_off(6)
}

#[test]
fn an_id_replaces_the_old_one_in_both_places() {
    for vector in all_vectors() {
        let before = frame(vector.from, &vector.bytes);
        let is_stream = vector.bytes[2] == 1;
        for id in [0, 1, 0x7f, 0x80, u32::MAX] {
            let out = rewritten(&vector.bytes, &Edit { id: Some(id.into()), ..Edit::default() });
            let (header_id, message, rest) = read(&out);
            let (_, old, same) = read(&vector.bytes);
            assert_eq!((header_id, rest), (id, same), "{}", vector.name);
            match vector.from {
                _ if is_stream => assert_eq!(message, old),
                Peer::Client => {
                    let old = Request::decode(old).unwrap();
                    assert_eq!(Request::decode(message), Ok(Request { request_id: id, ..old }));
                }
                Peer::Server => {
                    let old = Response::decode(old).unwrap();
                    assert_eq!(Response::decode(message), Ok(Response { request_id: id, ..old }));
                }
            }
            let found = frame(vector.from, &out);
            assert_eq!((found.id, found.kind), (id.into(), before.kind));
        }
        assert_eq!(rewritten(&vector.bytes, &Edit::default()), vector.bytes);
    }
}

#[test]
fn a_client_that_gives_two_ids_gets_both_back() {
    let request = unary(&hello(), 99, &[]);
    let id = frame(Peer::Client, &request).id;
    let response = unary(&Response { request_id: 5, ..Response::default() }, 5, b"body");
    let out = rewritten(&response, &Edit { id: Some(id), ..Edit::default() });
    let (header_id, message, rest) = read(&out);
    assert_eq!((header_id, Response::decode(message).unwrap().request_id, rest), (99, 7, &b"body"[..]));
    let mut out = Vec::new();
    Trpc.error_reply(&request, Failure::Timeout, "x", &mut out);
    let (header_id, message, _) = read(&out);
    assert_eq!((header_id, Response::decode(message).unwrap().request_id), (99, 7));
}

#[test]
fn entries_are_set_and_removed_both_ways() {
    let trans_info = [("x-lane", "gray"), ("keep", "1"), ("drop", "2")]
        .map(|(name, value)| (name.to_owned(), value.into()));
    let expected = [("x-lane", "blue"), ("new", "é😀"), ("keep", "1")]
        .map(|(name, value)| (name.to_owned(), value.into()));
    let changes = changes(&[("x-lane", "blue"), ("new", "é😀")], &["drop"]);
    let edit = Edit { id: Some(300), changes: &changes, ..Edit::default() };

    let request = Request { trans_info: trans_info.clone().into(), attachment_size: 2, ..hello() };
    let out = rewritten(&unary(&request, 7, b"bodyat"), &edit);
    let (id, message, rest) = read(&out);
    let changed = Request { request_id: 300, trans_info: expected.clone().into(), ..request };
    assert_eq!((id, Request::decode(message), rest), (300, Ok(changed), &b"bodyat"[..]));

    let response = Response {
        trans_info: trans_info.clone().into(),
        func_ret: 3,
        message_type: 1,
        ..Response::default()
    };
    let out = rewritten(&unary(&response, 7, b"body"), &edit);
    let changed = Response { request_id: 300, trans_info: expected.clone().into(), ..response };
    assert_eq!(Response::decode(read(&out).1), Ok(changed));

    let init =
        InitRequest { func: b"/a/b".to_vec(), trans_info: trans_info.into(), ..InitRequest::default() };
    let init = Init { request: Some(init), window: 65535, ..Init::default() };
    // The length of the message is said, or is not.
    let message = init.encode_to_vec();
    for bytes in [written([1, 1], 7, &message, &[]), written([1, 1], 7, &[], &message)] {
        let out = rewritten(&bytes, &edit);
        let mut changed = init.clone();
        changed.request.as_mut().unwrap().trans_info = expected.clone().into();
        assert_eq!((read(&out).0, Init::decode(&out[16..])), (300, Ok(changed)));
        assert_eq!(read(&out).1.is_empty(), read(&bytes).1.is_empty());
    }
}

#[test]
fn frames_without_entries_get_none() {
    let data = vector("stream-data.req");
    let set = changes(&[("a", "b")], &[]);
    let mut out = Vec::new();
    let error = Trpc.rewrite(&data.bytes, &Edit { id: Some(1), changes: &set, ..Edit::default() }, &mut out);
    assert!(matches!(error, Err(Error::Unsupported { .. })) && out.is_empty());
    let removed = rewritten(&data.bytes, &Edit { changes: &changes(&[], &["a"]), ..Edit::default() });
    assert_eq!(removed, data.bytes);
    // More than its length can say.
    let set = changes(&[("a", &"x".repeat(65_500))], &[]);
    let hello = unary(&hello(), 7, b"body");
    let error = Trpc.rewrite(&hello, &Edit { id: Some(1), changes: &set, ..Edit::default() }, &mut out);
    assert!(matches!(error, Err(Error::TooLarge { .. })) && out.is_empty(), "{error:?}");
}

#[test]
fn a_failure_is_a_code_and_a_text() {
    for (failure, code, name) in [
        (Failure::BadRequest, 1_u32, "SERVER_DECODE"),
        (Failure::NoRoute, 11, "SERVER_NOSERVICE"),
        (Failure::NoEndpoint, 111, "CLIENT_CONNECT"),
        (Failure::ConnectionLost, 141, "CLIENT_NETWORK"),
        (Failure::BadResponse, 122, "CLIENT_DECODE"),
        (Failure::Timeout, 101, "CLIENT_INVOKE_TIMEOUT"),
        (Failure::Overloaded, 22, "SERVER_OVERLOAD"),
        (Failure::RateLimited, 23, "SERVER_LIMITED"),
        (Failure::Denied, 41, "SERVER_AUTH"),
        (Failure::Fault, 31, "SERVER_SYSTEM"),
    ] {
        let ret = i32::try_from(code).unwrap();
        let mut out = Vec::new();
        Trpc.error_reply(&unary(&hello(), 7, &[]), failure, "no route: é😀", &mut out);
        let reply = frame(Peer::Server, &out);
        assert_eq!((reply.id, reply.kind), (7, Kind::Response(Outcome::Error(code))));
        let error_msg = "no route: é😀".into();
        let expected = Response { request_id: 7, ret, error_msg, ..Response::default() };
        assert_eq!(Response::decode(read(&out).1), Ok(expected));

        out.clear();
        Trpc.error_reply(&vector("stream-init.req").bytes, failure, "no route: é😀", &mut out);
        let reply = frame(Peer::Server, &out);
        assert_eq!((reply.id, reply.kind), (100, Kind::Reset(Outcome::Error(code))));
        let response = Some(InitResponse { ret, error_msg: "no route: é😀".into() });
        let expected = Init { response, ..Init::default() };
        assert_eq!(Init::decode(&out[16..]), Ok(expected));

        out.clear();
        Trpc.reset(&vector("stream-init.req").bytes, failure, "no route: é😀", &mut out);
        let reply = frame(Peer::Server, &out);
        assert_eq!((reply.id, reply.kind), (100, Kind::Reset(Outcome::Error(code))));
        let expected = Close { close_type: 1, ret, msg: "no route: é😀".into(), func_ret: 0 };
        assert_eq!(Close::decode(&out[16..]), Ok(expected));
        assert_eq!((Trpc.status_name(code), Trpc.status_code(name)), (Some(name), Some(code)));
        assert_eq!(Trpc.status_code(&format!("TRPC_{name}_ERR")), Some(code));
    }
    assert_eq!((Trpc.status_name(10001), Trpc.status_code("server_auth")), (None, None));
}

#[test]
fn entries_are_added_where_there_are_none_and_grow_where_there_are() {
    let change = |name: &str, action| Change { action, ..Change::set(name, "é") };
    let edits = [
        change("kept", Action::AddIfAbsent),
        change("new", Action::AddIfAbsent),
        change("via", Action::Append),
        change("fresh", Action::Append),
    ];
    let entries = |pairs: &[(&str, &str)]| -> HashMap<String, Vec<u8>> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().into())).collect()
    };
    let before = entries(&[("kept", "1"), ("via", "a")]);
    let after = entries(&[("kept", "1"), ("via", "a,é"), ("new", "é"), ("fresh", "é")]);
    let edit = Edit { changes: &edits, ..Edit::default() };
    let request = Request { trans_info: before.clone(), ..hello() };
    let out = rewritten(&unary(&request, 7, b"body"), &edit);
    let (_, message, rest) = read(&out);
    assert_eq!((Request::decode(message).unwrap().trans_info, rest), (after.clone(), &b"body"[..]));
    let response = Response { trans_info: before, ..Response::default() };
    let out = rewritten(&unary(&response, 7, b"body"), &edit);
    assert_eq!(Response::decode(read(&out).1).unwrap().trans_info, after);
}
