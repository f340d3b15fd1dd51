use meltemi_codecs::{Action, Brpc, Change, Codec, Depth, Edit, Failure, Kind, Outcome, Peer};

use super::{Entry, Meta, Request, Response, changes, echo, entries, frame, head, read, vectors, written};

fn rewritten(bytes: &[u8], edit: &Edit<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    Brpc.rewrite(bytes, edit, &mut out).unwrap();
    out.split_off(6)
}

#[test]
fn an_id_of_any_length_replaces_the_old_one() {
    for vector in vectors() {
        for id in [0, 1, 0x7f, 0x80, 1 << 40, i64::MAX] {
            let edit = Edit { id: Some(id.cast_unsigned()), ..Edit::default() };
            let out = rewritten(&vector.bytes, &edit);
            let (before, body) = read(&vector.bytes);
            let (after, same) = read(&out);
            assert_eq!(after, Meta { correlation_id: Some(id), ..before }, "{}", vector.name);
            assert_eq!(same, body);
            let found = frame(vector.from, &out);
            assert_eq!((found.id, found.kind), (edit.id.unwrap(), frame(vector.from, &vector.bytes).kind));
        }
        assert_eq!(rewritten(&vector.bytes, &Edit::default()), vector.bytes);
    }
}

#[test]
fn an_id_is_added_where_there_is_none() {
    let bytes = written(&Meta { correlation_id: None, ..echo() }, b"body");
    assert_eq!(frame(Peer::Client, &bytes).id, 0);
    let out = rewritten(&bytes, &Edit { id: Some(5), ..Edit::default() });
    assert_eq!(read(&out), (Meta { correlation_id: Some(5), ..echo() }, &b"body"[..]));
}

#[test]
fn user_fields_are_set_and_removed() {
    let mut meta = echo();
    meta.compress_type = Some(2);
    meta.attachment_size = Some(2);
    meta.authentication_data = Some(b"secret".to_vec());
    for (name, value) in [("x-lane", "gray"), ("keep", "1"), ("drop", "2")] {
        meta.user_fields.insert(name.to_owned(), value.to_owned());
    }
    let set = entries(&[("x-lane", "blue"), ("new", "é😀")]);
    let changes = changes(&[("x-lane", "blue"), ("new", "é😀")], &["drop"]);
    let edit = Edit { id: Some(300), changes: &changes, ..Edit::default() };
    let mut expected = Meta { correlation_id: Some(300), ..meta.clone() };
    expected.user_fields =
        entries(&[("x-lane", "blue"), ("new", "é😀"), ("keep", "1")]).into_iter().collect();
    let out = rewritten(&written(&meta, b"bodyat"), &edit);
    assert_eq!(read(&out), (expected, &b"bodyat"[..]));

    // And in a response.
    let response = Some(Response { error_code: Some(0), error_text: None });
    let response = Meta { response, correlation_id: Some(1), ..Meta::default() };
    let out = rewritten(&written(&response, b"x"), &edit);
    let expected = Meta { correlation_id: Some(300), user_fields: set.iter().cloned().collect(), ..response };
    assert_eq!(read(&out), (expected, &b"x"[..]));
}

#[test]
fn the_numbers_of_rpcz_stay_as_they_are() {
    let trace = changes(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")], &[]);
    for number in [None, Some(0), Some(1), Some(i64::MAX), Some(i64::MIN), Some(-1)] {
        let request = Request {
            log_id: number,
            trace_id: number,
            span_id: number,
            parent_span_id: number,
            ..echo().request.unwrap()
        };
        let meta = Meta { request: Some(request), ..echo() };
        let edit = Edit { id: Some(300), changes: &trace, ..Edit::default() };
        let (after, body) = (rewritten(&written(&meta, b"body"), &edit), b"body");
        let user_fields = trace.iter().map(|change| (change.name.clone(), change.value.clone())).collect();
        assert_eq!(read(&after), (Meta { correlation_id: Some(300), user_fields, ..meta }, &body[..]));
    }
}

#[test]
fn what_brpc_java_can_read_is_set_for_it() {
    let request = |seventh| Meta { request: Some(Request { seventh, ..echo().request.unwrap() }), ..echo() };
    let meta = request(vec![Entry::encoded("x-lane", "gray"), Entry::encoded("keep", "1")]);
    let set = entries(&[("x-lane", "blue")]);
    let blue = changes(&[("x-lane", "blue")], &[]);
    let out = rewritten(&written(&meta, b"body"), &Edit { changes: &blue, ..Edit::default() });
    let expected = request(vec![Entry::encoded("keep", "1"), Entry::encoded("x-lane", "blue")]);
    assert_eq!(read(&out), (expected, &b"body"[..]));
    // An id stays where entries are set beside it.
    let meta = request(vec![b"req-42".to_vec()]);
    let out = rewritten(&written(&meta, &[]), &Edit { changes: &blue, ..Edit::default() });
    let expected = Meta { user_fields: set.iter().cloned().collect(), ..meta };
    assert_eq!(read(&out).0, expected);
    assert!(head(&out, Depth::Verified).unwrap().contains(&("requestId".to_owned(), "req-42".to_owned())));
}

#[test]
fn a_failure_is_a_code_and_a_text() {
    for (failure, code, name) in [
        (Failure::BadRequest, 1003, "EREQUEST"),
        (Failure::NoRoute, 1001, "ENOSERVICE"),
        (Failure::NoEndpoint, 112, "EHOSTDOWN"),
        (Failure::ConnectionLost, 1009, "EFAILEDSOCKET"),
        (Failure::BadResponse, 2002, "ERESPONSE"),
        (Failure::Timeout, 1008, "ERPCTIMEDOUT"),
        (Failure::Overloaded, 2004, "ELIMIT"),
        (Failure::RateLimited, 2004, "ELIMIT"),
        (Failure::Denied, 1004, "ERPCAUTH"),
        (Failure::Fault, 2001, "EINTERNAL"),
    ] {
        for vector in vectors().iter().filter(|vector| vector.from == Peer::Client) {
            let request = frame(vector.from, &vector.bytes);
            let mut out = Vec::new();
            Brpc.error_reply(&vector.bytes[..request.head], failure, "no route: é😀", &mut out);
            let reply = frame(Peer::Server, &out);
            assert_eq!((reply.id, reply.len), (request.id, out.len()));
            assert_eq!(reply.kind, Kind::Response(Outcome::Error(code)));
            let response = Response {
                error_code: Some(code.cast_signed()),
                error_text: Some("no route: é😀".to_owned()),
            };
            let correlation_id = Some(request.id.cast_signed());
            let expected = Meta { response: Some(response), correlation_id, ..Meta::default() };
            assert_eq!(read(&out), (expected, &[][..]));
        }
        assert_eq!((Brpc.status_name(code), Brpc.status_code(name)), (Some(name), Some(code)));
    }
    assert_eq!((Brpc.status_name(10001), Brpc.status_code("elimit")), (None, None));
}

#[test]
fn fields_are_added_where_there_are_none_and_grow_where_there_are() {
    let change = |name: &str, action| Change { action, ..Change::set(name, "é") };
    let edits = [
        change("kept", Action::AddIfAbsent),
        change("new", Action::AddIfAbsent),
        change("via", Action::Append),
    ];
    let edit = Edit { changes: &edits, ..Edit::default() };
    let before = entries(&[("kept", "1"), ("via", "a")]);
    let meta = Meta { user_fields: before.into_iter().collect(), ..echo() };
    let out = rewritten(&written(&meta, b"body"), &edit);
    let after = entries(&[("kept", "1"), ("via", "a,é"), ("new", "é")]);
    assert_eq!(read(&out).0.user_fields, after.into_iter().collect());
    // What is in the other of the two places is there.
    let request = |seventh| Some(Request { seventh, ..echo().request.unwrap() });
    let lane = || Entry::encoded("x-lane", "gray");
    let meta = Meta {
        request: request(vec![lane()]),
        user_fields: entries(&[("kept", "1")]).into_iter().collect(),
        ..echo()
    };
    let out = rewritten(&written(&meta, b"body"), &Edit { changes: &edits[..2], ..Edit::default() });
    let expected = Meta { request: request(vec![lane(), Entry::encoded("new", "é")]), ..meta };
    assert_eq!(read(&out).0, expected);
}
