use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Action, Change, Codec, Depth, Edit, Error, Head, Kind, Peer, Thrift};

use super::{LIMIT, all_vectors, calls, changes, frame, pairs, vector, written};

fn rewrite(bytes: &[u8], edit: &Edit<'_>) -> Result<Vec<u8>, Error> {
    let mut out = b"before".to_vec();
    let result = Thrift.rewrite(bytes, edit, &mut out);
    let out = out.strip_prefix(b"before").unwrap().to_vec();
    if result.is_err() {
        assert!(out.is_empty());
    }
    result.map(|()| out)
}

fn with_id(id: u64) -> Edit<'static> {
    Edit { id: Some(id), ..Edit::default() }
}

#[test]
fn another_id_changes_the_id_alone_and_comes_back() {
    let i32_max = u64::from(i32::MAX.unsigned_abs());
    for vector in all_vectors() {
        let before = frame(vector.from, &vector.bytes);
        if before.kind == Kind::Drain {
            continue;
        }
        for id in [1, 127, 128, 1 << 20, i32_max, u32::MAX.into()] {
            let out = rewrite(&vector.bytes, &with_id(id)).unwrap();
            let after = frame(vector.from, &out);
            assert_eq!((after.id, after.len, after.kind), (id, out.len(), before.kind), "{}", vector.path);
            let (read, expected) = (Message::read(&out).unwrap(), Message::read(&vector.bytes).unwrap());
            assert_eq!(read, Message { id: id as u32, ..expected }, "{}", vector.path);
            let back = rewrite(&out, &with_id(before.id)).unwrap();
            match read.is_compressed {
                false => assert_eq!(back, vector.bytes, "{}", vector.path),
                true => assert_eq!(Message::read(&back).unwrap(), Message::read(&vector.bytes).unwrap()),
            }
        }
        assert_eq!(rewrite(&vector.bytes, &Edit::default()).unwrap(), vector.bytes, "{}", vector.path);
    }
}

#[test]
fn large_messages_are_stored_in_pieces() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let content = Content::Call(text.as_slice().into());
    let call = Message::new(Transport::THeader, Protocol::Compact, 300, "echo", content);
    let call = Message { is_compressed: true, ..call };
    let out = rewrite(&written(&call), &with_id(7)).unwrap();
    assert_eq!(Message::read(&out).unwrap(), Message { id: 7, ..call });
}

#[test]
fn headers_are_set_and_removed_where_there_are_any() {
    let set =
        [("x-lane", "blue"), ("logId", "1"), ("99", "x"), ("RPC_TRANSIT_gdpr-token", "t"), ("new", "é😀")];
    let edits = changes(&set, &["toMethod", "x-gone"]);
    for call in calls("sayHello") {
        let before = written(&call);
        let has_headers = !matches!(call.transport, Transport::Unframed | Transport::Framed);
        for (id, new_id) in [(None, call.id), (Some(9), 9)] {
            let edited = rewrite(&before, &Edit { id, changes: &edits, ..Edit::default() });
            if !has_headers {
                let what = "headers of this transport";
                assert_eq!(edited, Err(Error::Unsupported { what, offset: 0 }));
                continue;
            }
            let edited = edited.unwrap();
            let expected = Message { id: new_id, headers: pairs(&set), ..call.clone() };
            assert_eq!(Message::read(&edited).unwrap(), expected);
            assert_eq!(frame(Peer::Client, &edited).id, u64::from(new_id));
            // What was set is replaced, and removed.
            let again = changes(&[("logId", "2")], &["99", "new", "RPC_TRANSIT_gdpr-token"]);
            let edited = rewrite(&edited, &Edit { changes: &again, ..Edit::default() }).unwrap();
            assert_eq!(Message::read(&edited).unwrap().headers, pairs(&[("x-lane", "blue"), ("logId", "2")]));
        }
    }
}

#[test]
fn headers_of_kitex_stay_of_their_kind() {
    let ints = vector("kitex-0.15.4/ttheader-ints.00-sayHello.req").bytes;
    let edits = changes(&[("x-lane", "blue"), ("toService", "other")], &["logId", "99"]);
    let out = rewrite(&ints, &Edit { changes: &edits, ..Edit::default() }).unwrap();
    let headers =
        [("fromService", "caller"), ("toMethod", "sayHello"), ("x-lane", "blue"), ("toService", "other")];
    assert_eq!(Message::read(&out).unwrap().headers, pairs(&headers));
    // The flags stay, and an integer header that is set is one on the wire.
    assert_eq!(out[4..12], ints[4..12]);
    assert!(out.windows(12).any(|bytes| bytes == b"\x10\0\x01\0\x06\0\x05other"));
    let mut head = Head::new();
    Thrift.head(&out, Depth::Head, &mut head).unwrap();
    assert_eq!(head.get("service"), Some("other"));
}

#[test]
fn a_checksum_that_no_longer_holds_is_left_out() {
    let call = Message::new(
        Transport::TtHeader { framed: true },
        Protocol::Binary,
        5,
        "sayHello",
        Content::Call(b"x".into()),
    );
    let call = Message { headers: pairs(&[("x-lane", "gray"), ("crc32c", "01234567")]), ..call };
    let out = rewrite(&written(&call), &with_id(7)).unwrap();
    assert_eq!(Message::read(&out).unwrap().headers, pairs(&[("x-lane", "gray")]));
    let out =
        rewrite(&written(&call), &Edit { changes: &changes(&[("a", "b")], &[]), ..Edit::default() }).unwrap();
    let kept = pairs(&[("x-lane", "gray"), ("crc32c", "01234567"), ("a", "b")]);
    assert_eq!(Message::read(&out).unwrap().headers, kept);
}

#[test]
fn headers_that_do_not_fit_are_refused() {
    for call in calls("sayHello")
        .into_iter()
        .filter(|call| !matches!(call.transport, Transport::Framed | Transport::Unframed))
    {
        for (count, len) in [(1, 70_000), (5, 60_000)] {
            let set: Vec<_> =
                (0..count).map(|number| Change::set(number.to_string(), "x".repeat(len))).collect();
            let edited = rewrite(&written(&call), &Edit { changes: &set, ..Edit::default() });
            let fits = count == 1 && call.transport == Transport::THeader;
            assert_eq!(matches!(edited, Err(Error::TooLarge { .. })), !fits, "{call:?}");
            assert_eq!(edited.is_ok(), fits);
        }
    }
}

#[test]
fn headers_that_cannot_be_read_pass_with_another_id() {
    let mut bytes = vector("kitex-0.15.4/ttheader-text.01-sayHello.req").bytes;
    // A kind of headers that nobody knows.
    bytes[16] = 0x77;
    assert!(Thrift.head(&bytes, Depth::Attachments, &mut Head::new()).is_err());
    let out = rewrite(&bytes, &with_id(9)).unwrap();
    assert_eq!(Thrift.split(Peer::Client, &out, LIMIT).map(|_| frame(Peer::Client, &out).id), Ok(9));
    assert!(rewrite(&bytes, &Edit { changes: &changes(&[("a", "b")], &[]), ..Edit::default() }).is_err());
}

#[test]
fn headers_are_added_where_there_are_none_and_grow_where_there_are() {
    for call in calls("sayHello")
        .into_iter()
        .filter(|call| !matches!(call.transport, Transport::Framed | Transport::Unframed))
    {
        let call = Message { headers: pairs(&[("logId", "7"), ("via", "a"), ("kept", "1")]), ..call };
        let change = |name: &str, action| Change { action, ..Change::set(name, "é") };
        let edits = [
            change("kept", Action::AddIfAbsent),
            change("new", Action::AddIfAbsent),
            change("logId", Action::Append),
            change("fresh", Action::Append),
        ];
        let edited = rewrite(&written(&call), &Edit { changes: &edits, ..Edit::default() }).unwrap();
        let expected = [("logId", "7,é"), ("via", "a"), ("kept", "1"), ("new", "é"), ("fresh", "é")];
        assert_eq!(Message::read(&edited).unwrap().headers, pairs(&expected));
        // A value that would not fit grows no further.
        let long = Message { headers: pairs(&[("via", &"x".repeat(65_530))]), ..call };
        let more = [Change { action: Action::Append, ..Change::set("via", "x".repeat(10)) }];
        let edited = rewrite(&written(&long), &Edit { changes: &more, ..Edit::default() });
        let fits = long.transport == Transport::THeader;
        assert_eq!(matches!(edited, Err(Error::TooLarge { .. })), !fits);
    }
}
