use meltemi_codecs::dubbo::Header;
use meltemi_codecs::dubbo::message::{Request, Value, read_arguments};
use meltemi_codecs::{
    Action, Change, Codec, Depth, Dubbo, Edit, Error, Head, Kind, Outcome, Peer, Place, Placed, Search,
};

use super::{LIMIT, all_vectors, entries, frame, vector, vectors};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn rewrite(bytes: &[u8], set: &[(&str, &str)], remove: &[&str]) -> Result<Vec<u8>, Error> {
    let mut out = b"before".to_vec();
    let set = set.iter().map(|(name, value)| Change::set(*name, *value));
    let changes: Vec<_> = set.chain(remove.iter().map(|name| Change::remove(*name))).collect();
    let edit = Edit { changes: &changes, ..Edit::default() };
    let result = Dubbo.rewrite(bytes, &edit, &mut out);
    let out = out.strip_prefix(b"before").unwrap().to_vec();
    match result {
        Ok(()) => Ok(out),
        Err(error) => {
            assert!(out.is_empty());
            Err(error)
        }
    }
}

fn read(bytes: &[u8]) -> Head {
    let mut head = Head::new();
    match frame(Peer::Server, bytes).kind {
        Kind::Response(_) => Dubbo.response_head(bytes, &mut head).unwrap(),
        _ => Dubbo.head(bytes, Depth::Attachments, &mut head).unwrap(),
    }
    head
}

#[test]
fn another_id_changes_the_id_alone() {
    for vector in all_vectors() {
        for id in [0, 1, u64::MAX, 0x0102_0304_0506_0708] {
            let mut out = Vec::new();
            Dubbo.rewrite(&vector.bytes, &Edit { id: Some(id), ..Edit::default() }, &mut out).unwrap();
            let before = frame(vector.from, &vector.bytes);
            let after = frame(vector.from, &out);
            assert_eq!((after.id, after.kind, after.len), (id, before.kind, before.len), "{}", vector.path);
            assert_eq!(out[..4], vector.bytes[..4]);
            assert_eq!(out[12..], vector.bytes[12..]);
        }
    }
}

#[test]
fn attachments_are_set_and_removed_and_all_else_stays() {
    let requests = ["java-2.7.23", "java-3.3.5", "envoy-1.38.2"].into_iter().flat_map(vectors);
    let requests = requests.filter(|vector| {
        let header = Header::parse(&vector.bytes).unwrap().unwrap();
        header.is_request() && !header.is_event() && header.serialization() == 2
    });
    let mut seen = 0;
    for vector in requests {
        let before = read(&vector.bytes);
        let out =
            rewrite(&vector.bytes, &[("x-lane", "blue"), ("新", "值😀")], &["remote.application", "none"]);
        let out = out.unwrap();
        let after = read(&out);
        let mut expected = entries(&before);
        expected.retain(|(name, _)| name != "remote.application" && name != "x-lane");
        expected.extend(pairs(&[("x-lane", "blue"), ("新", "值😀")]));
        assert_eq!(entries(&after), expected, "{}", vector.path);
        assert_eq!(read_arguments(&out).unwrap(), read_arguments(&vector.bytes).unwrap());
        assert_eq!(frame(Peer::Client, &out).len, out.len());
        seen += 1;
    }
    assert!(seen > 30);
}

#[test]
fn arguments_of_every_form_stay_byte_for_byte() {
    for vector in vectors("hessian-4.0.66") {
        let bytes = &vector.bytes;
        let out = rewrite(bytes, &[("new", "1")], &[]).unwrap();
        // A map ends with one byte, which the new entry precedes.
        let same = bytes.len() - 1;
        assert_eq!(out[16..same], bytes[16..same], "{}", vector.name);
        assert_eq!(out[same..], *b"\x03new\x011Z", "{}", vector.name);
        let out = rewrite(&out, &[], &["new"]).unwrap();
        assert_eq!(out, *bytes, "{}", vector.name);
    }
}

#[test]
fn an_attachment_that_others_refer_to_is_not_removed() {
    // `user` holds the object that `boss` refers to, and defines the class that both are of.
    let vector = vector("hessian-4.0.66/attachments-defining");
    let before = entries(&read(&vector.bytes));
    let error = rewrite(&vector.bytes, &[], &["user"]).unwrap_err();
    assert!(matches!(error, Error::Unsupported { offset, .. } if offset > 16 && offset < vector.bytes.len()));
    assert!(rewrite(&vector.bytes, &[("user", "text")], &[]).is_err());
    // The list defines the class of the last.
    assert!(rewrite(&vector.bytes, &[], &["list"]).is_err());
    // All that refer to it go with it.
    let out = rewrite(&vector.bytes, &[], &["user", "boss", "list", "again"]).unwrap();
    assert_eq!(entries(&read(&out)), before);
    // Nothing refers to these.
    for name in ["boss", "again"] {
        let out = rewrite(&vector.bytes, &[], &[name]).unwrap();
        assert_eq!(entries(&read(&out)), before);
    }
    // What the arguments define stays.
    let vector = super::vector("hessian-4.0.66/attachments-referring");
    let out = rewrite(&vector.bytes, &[], &["user", "first"]).unwrap();
    assert_eq!(read(&out).attachments().collect::<Vec<_>>(), [("last", "é😀")]);
}

#[test]
fn a_missing_or_null_map_is_made() {
    let mut bytes = Vec::new();
    Request { interface: "a.B", method: "m", arguments: &["x".into()], ..Request::default() }
        .write(&mut bytes);
    let map = bytes.iter().rposition(|byte| *byte == b'H').unwrap();
    for end in [&b""[..], b"N"] {
        let mut bytes = bytes[..map].to_vec();
        bytes.extend_from_slice(end);
        let length = u32::try_from(bytes.len() - 16).unwrap();
        bytes[12..16].copy_from_slice(&length.to_be_bytes());
        assert_eq!(read(&bytes).attachments().count(), 0);
        let out = rewrite(&bytes, &[("k", "v")], &["z"]).unwrap();
        assert_eq!(read(&out).attachments().collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!(rewrite(&bytes, &[], &["z"]).unwrap(), bytes);
    }
}

#[test]
fn a_typed_map_and_repeated_names_are_edited() {
    let mut bytes = Vec::new();
    Request { interface: "a.B", method: "m", ..Request::default() }.write(&mut bytes);
    let map = bytes.iter().rposition(|byte| *byte == b'H').unwrap();
    bytes.truncate(map);
    bytes.extend_from_slice(b"M\x11java.util.HashMap\x01k\x01a\x92\x01b\x01k\x01c\x01l\x01dZ");
    let length = u32::try_from(bytes.len() - 16).unwrap();
    bytes[12..16].copy_from_slice(&length.to_be_bytes());
    let out = rewrite(&bytes, &[("k", "v")], &[]).unwrap();
    assert!(out.ends_with(b"M\x11java.util.HashMap\x92\x01b\x01l\x01d\x01k\x01vZ"));
    let entries: Vec<_> =
        read(&out).attachments().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(entries, pairs(&[("l", "d"), ("k", "v")]));
}

#[test]
fn long_values_are_written_in_pieces() {
    let bytes = &vector("java-2.7.23/main-sayHello.c2s.id0.req").bytes;
    for text in [
        "x".repeat(31),
        "x".repeat(32),
        "x".repeat(1024),
        "x".repeat(0x8000),
        "x".repeat(0x8001),
        "é😀".repeat(50_000),
    ] {
        let out = rewrite(bytes, &[("long", &text)], &[]).unwrap();
        assert_eq!(read(&out).get("long"), Some(text.as_str()));
        let again = rewrite(&out, &[("after", "1")], &["long"]).unwrap();
        assert_eq!(read(&again).get("long"), None);
        assert_eq!(read(&again).get("after"), Some("1"));
    }
}

#[test]
fn responses_are_edited_where_they_have_attachments() {
    let vectors = ["java-2.7.23", "java-3.3.5"].into_iter().flat_map(vectors);
    let mut seen = 0;
    for vector in vectors.filter(|vector| vector.name.ends_with(".resp") && vector.bytes[2] == 2) {
        let out = rewrite(&vector.bytes, &[("k", "v")], &["dubbo", "served-by"]);
        if matches!(vector.bytes[16], 0x93..=0x95) && vector.bytes[3] == 20 {
            let out = out.unwrap();
            let (before, after) = (read(&vector.bytes), read(&out));
            assert_eq!(after.attachments().collect::<Vec<_>>(), [("k", "v")], "{}", vector.path);
            assert_eq!(after.get("result"), before.get("result"));
            assert_eq!(after.get("exception"), before.get("exception"));
            seen += 1;
        } else {
            assert!(matches!(out, Err(Error::Unsupported { .. })), "{}", vector.path);
            // Nothing to remove is nothing to do.
            assert_eq!(rewrite(&vector.bytes, &[], &["dubbo"]).unwrap(), vector.bytes);
        }
    }
    assert!(seen > 15);
}

#[test]
fn other_serializations_keep_their_attachments() {
    for vector in vectors("java-3.3.5").into_iter().filter(|vector| vector.bytes[2] & 0x1f == 23) {
        let error = rewrite(&vector.bytes, &[("k", "v")], &[]).unwrap_err();
        assert!(matches!(error, Error::Unsupported { offset: 2, .. }), "{error}");
    }
}

#[test]
fn what_is_too_large_is_told_from_the_header() {
    let bytes = &vector("java-2.7.23/main-sayHello.c2s.id0.req").bytes;
    let size = u64::try_from(bytes.len()).unwrap();
    assert_eq!(
        Dubbo.split(Peer::Client, &bytes[..16], bytes.len() - 1),
        Err(Error::TooLarge { what: "frame", size, limit: bytes.len() - 1 })
    );
    assert!(Dubbo.split(Peer::Client, bytes, bytes.len()).is_ok());
    let mut negative = bytes.clone();
    negative[12] = 0xff;
    assert_eq!(
        Dubbo.split(Peer::Client, &negative, LIMIT),
        Err(Error::Malformed { what: "body length", offset: 12 })
    );
}

#[test]
fn a_value_keeps_its_type() {
    let arguments = [Value::from("é😀"), Value::from(&[7_u8; 70_000][..]), 42.into(), Value::Null];
    let mut bytes = Vec::new();
    let request = Request {
        id: 7,
        interface: "a.B",
        version: "1",
        method: "m",
        arguments: &arguments,
        attachments: &[("k", "v")],
        ..Request::default()
    };
    request.write(&mut bytes);
    let out = rewrite(&bytes, &[("l", "w")], &["k"]).unwrap();
    assert_eq!(read_arguments(&out).unwrap(), arguments);
    let head = read(&out);
    assert_eq!(head.get("parameterTypes"), Some("Ljava/lang/String;[BILjava/lang/Object;"));
    assert_eq!((head.get("k"), head.get("l"), head.get("group")), (None, Some("w"), None));
    assert_eq!(frame(Peer::Client, &out).kind, Kind::Request);
    assert_ne!(frame(Peer::Client, &out).kind, Kind::Response(Outcome::Success));
}

#[test]
fn attachments_are_added_where_there_are_none_and_grow_where_there_are() {
    let change = |name: &str, action| Change { action, ..Change::set(name, "é😀") };
    let edits = [
        change("kept", Action::AddIfAbsent),
        change("new", Action::AddIfAbsent),
        change("via", Action::Append),
        change("fresh", Action::Append),
    ];
    let edit = Edit { changes: &edits, ..Edit::default() };
    let mut bytes = Vec::new();
    let attachments = [("kept", "1"), ("via", "é"), ("last", "2")];
    Request { interface: "a.B", method: "m", attachments: &attachments, ..Request::default() }
        .write(&mut bytes);
    let mut out = Vec::new();
    Dubbo.rewrite(&bytes, &edit, &mut out).unwrap();
    let wanted = |name: &str| ["kept", "via", "last", "new", "fresh"].contains(&name);
    let head = read(&out);
    let found: Vec<_> = head.attachments().filter(|(name, _)| wanted(name)).collect();
    let expected = [("kept", "1"), ("via", "é,é😀"), ("last", "2"), ("new", "é😀"), ("fresh", "é😀")];
    assert_eq!(found, expected);
    // What is no text is replaced, unless others refer to it.
    let vector = vector("hessian-4.0.66/attachments-defining");
    let append = |name| [Change { action: Action::Append, ..Change::set(name, "x") }];
    let edited = |name| {
        let mut out = Vec::new();
        Dubbo
            .rewrite(&vector.bytes, &Edit { changes: &append(name), ..Edit::default() }, &mut out)
            .map(|()| out)
    };
    assert!(edited("user").is_err());
    assert_eq!(read(&edited("boss").unwrap()).get("boss"), Some("x"));
}

/// The place of an attachment in a frame whose attachments are these bytes, and what is written there.
fn written_at(map: &[u8], name: &str, value: &str) -> (Option<Place>, Vec<u8>) {
    let mut bytes = Vec::new();
    Request { interface: "a.B", method: "m", ..Request::default() }.write(&mut bytes);
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'H').unwrap());
    let start = bytes.len();
    bytes.extend_from_slice(map);
    let length = u32::try_from(bytes.len() - 16).unwrap();
    bytes[12..16].copy_from_slice(&length.to_be_bytes());
    let mut head = Head::new();
    Dubbo.find(&bytes, &mut Search::new(&["k", "none"]), &mut head).unwrap();
    let place = head.place(name);
    let mut out = Vec::new();
    let (entry, len) = (Dubbo.entry(name, value.len()), value.len());
    let placed = place.filter(|_| value.is_ascii()).map(|place| Placed { place, entry: &entry, len });
    if let Some(room) = placed.and_then(|placed| Dubbo.place(&bytes, 9, &placed, &mut out)) {
        room.copy_from_slice(value.as_bytes());
    } else {
        assert!(out.is_empty());
        let edit = Edit { id: Some(9), changes: &[Change::set(name, value)], ..Edit::default() };
        Dubbo.rewrite(&bytes, &edit, &mut out).unwrap();
    }
    assert_eq!(frame(Peer::Client, &out).len, out.len());
    assert_eq!((frame(Peer::Client, &out).id, read(&out).get(name)), (9, Some(value)));
    (place, out[start..].to_vec())
}

#[test]
fn what_was_found_is_written_over_and_what_was_not_is_added() {
    let is_over = |place| matches!(place, Some(Place::Over { .. }));
    let (place, written) = written_at(b"H\x01a\x01b\x01k\x03one\x01e\x90\x01c\x01dZ", "k", "two");
    assert!(is_over(place), "{place:?}");
    assert_eq!(written, b"H\x01a\x01b\x01k\x03two\x01e\x90\x01c\x01dZ");
    // Of another length, or no ASCII: it goes to the end, as without a place.
    for (text, bytes) in [("three", "\x05three"), ("é!", "\x02é!")] {
        let (place, written) = written_at(b"H\x01k\x03one\x01c\x01dZ", "k", text);
        assert!(is_over(place), "{place:?}");
        assert_eq!(written, format!("H\x01c\x01d\x01k{bytes}Z").into_bytes());
    }
    let (place, written) = written_at("H\x01k\x02én\x01c\x01dZ".as_bytes(), "k", "two");
    assert!(is_over(place), "{place:?}");
    assert_eq!(written, b"H\x01c\x01d\x01k\x03twoZ");
    let (place, written) = written_at(b"H\x01a\x01bZafter", "none", "é");
    assert!(matches!(place, Some(Place::Before(_))), "{place:?}");
    assert_eq!(written, "H\x01a\x01b\x04none\x01éZafter".as_bytes());
}

#[test]
fn what_may_be_there_twice_or_is_no_plain_text_has_no_place() {
    for (map, rest) in [
        // Twice, of which Java keeps the last.
        (&b"H\x01k\x03one\x01k\x03oneZ"[..], &b"H\x01k\x03twoZ"[..]),
        (b"H\x01k\x03one\x30\x01k\x03oneZ", b"H\x01k\x03twoZ"),
        (b"H\x01k\x03oneR\x00\x01kS\x00\x00\x03oneZ", b"H\x01k\x03twoZ"),
        // A number, null, an object, and a name that is none.
        (b"H\x01k\xe1Z", b"H\x01k\x03twoZ"),
        (b"H\x01kNZ", b"H\x01k\x03twoZ"),
        (b"H\x01kHZZ", b"H\x01k\x03twoZ"),
        (b"H\x91\x01k\x01k\x03oneZ", b"H\x91\x01k\x01k\x03twoZ"),
        // In two pieces.
        (b"H\x01kR\x00\x01o\x02neZ", b"H\x01k\x03twoZ"),
        // No map at all.
        (b"N", b"H\x01k\x03twoZ"),
        (b"", b"H\x01k\x03twoZ"),
    ] {
        let (place, written) = written_at(map, "k", "two");
        assert_eq!((place, &*written), (None, rest), "{map:?}");
    }
}

#[test]
fn a_place_is_of_one_frame() {
    let of = |front: &[u8], rest: &[u8]| {
        let mut bytes = b"\xda\xbb\xc2\0\0\0\0\0\0\0\0\x01".to_vec();
        let length = u32::try_from(front.len() + rest.len()).unwrap();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(front);
        bytes.extend_from_slice(rest);
        bytes
    };
    // Nothing is read of it but where it ends.
    let nameless = of(b"NNNN\0", b"HZ");
    let next = of(b"\x01v\x03a.B\x01v\x01m\0", b"N");
    let (mut head, mut search) = (Head::new(), Search::new(&["k"]));
    Dubbo.head(&nameless, Depth::Operation, &mut head).unwrap();
    Dubbo.find(&nameless, &mut search, &mut head).unwrap();
    assert!(head.is_empty() && head.place("k").is_some());
    Dubbo.head(&next, Depth::Operation, &mut head).unwrap();
    Dubbo.find(&next, &mut search, &mut head).unwrap();
    assert_eq!(head.place("k"), None);
}

#[test]
fn attachments_that_said_nothing_say_nothing_again() {
    let request = |id: u64, map: &[u8]| {
        let mut bytes = Vec::new();
        Request { id, interface: "a.B", method: "m", ..Request::default() }.write(&mut bytes);
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'H').unwrap());
        bytes.extend_from_slice(map);
        let length = u32::try_from(bytes.len() - 16).unwrap();
        bytes[12..16].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let mut search = Search::new(&["k"]);
    for (number, (map, value)) in [
        (&b"H\x01a\x01b\x01c\x01HZ"[..], None),
        (b"H\x01a\x01b\x01c\x01HZ", None),
        // The same, as the end of another.
        (b"H\x01k\x01H\x01a\x01b\x01c\x01HZ", Some("H")),
        (b"H\x01a\x01b\x01c\x01H\x01k\x01dZ", Some("d")),
        (b"H\x01a\x01bS\x00\x01k\x01HZ", Some("H")),
        (b"H\x01a\x01b\x01c\x01HZ", None),
        // What follows the attachments may look like them.
        (b"H\x01k\x01bZH\x01a\x01b\x01c\x01HZ", Some("b")),
        (b"HZ", None),
        (b"HZ", None),
        (b"H\x01k\x01bHZ", Some("b")),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = request(number as u64, map);
        let (mut head, mut fresh) = (Head::new(), Head::new());
        let found = Dubbo.find(&bytes, &mut search, &mut head);
        assert_eq!(found, Dubbo.find(&bytes, &mut Search::new(&["k"]), &mut fresh), "{map:?}");
        assert_eq!((head.get("k"), head.get("method")), (value, Some("m")), "{map:?}");
        assert_eq!(head.place("k"), fresh.place("k"), "{map:?}");
        assert!(search.may_be_in(&head) || value.is_none(), "{map:?}");
    }
}
