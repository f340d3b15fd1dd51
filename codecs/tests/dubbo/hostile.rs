use meltemi_codecs::dubbo::message::Request;
use meltemi_codecs::{Change, Codec, Depth, Dubbo, Edit, Error, Head, Peer, Step};
use proptest::prelude::*;

use super::{LIMIT, frame};

/// A request whose only argument has the bytes `argument`.
fn with_argument(argument: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for text in ["2.0.2", "a.B", "1", "m"] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(b"\x12Ljava/lang/Object;");
    bytes.extend_from_slice(argument);
    bytes.extend_from_slice(b"H\x01k\x01vZ");
    let length = u32::try_from(bytes.len() - 16).unwrap();
    bytes[12..16].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn read(argument: &[u8]) -> Result<String, Error> {
    let mut head = Head::new();
    Dubbo.head(&with_argument(argument), Depth::Attachments, &mut head)?;
    Ok(head.get("k").unwrap_or_default().to_owned())
}

#[test]
fn rare_forms_are_passed_over() {
    for argument in [
        // Lists: typed by name and by number, of known and unknown length.
        &b"V\x04[int\x92\x90\x91"[..],
        b"V\x04[int\x92\x90V\x90\x91\x90",
        b"U\x04[int\x90\x91Z",
        b"W\x90W\x91ZZ",
        b"X\x93\x90\x90\x90",
        b"x",
        b"z\x90\x90",
        b"q\x01tN",
        // A map as key of a map, typed by number.
        b"M\x01tM\x90NNZNZ",
        // Definitions one after the other, an object with the long form.
        b"C\x01a\x91\x01fC\x01b\x90O\x91",
        b"C\x01a\x92\x01f\x01g`\x90`NQ\x90",
        // A string of three pieces, the last empty, and a binary of two.
        b"R\0\x02\xc3\xa9xR\0\x01y\0",
        b"A\0\x02abB\0\x01c",
        b"A\0\x02ab\x21c",
        // Four bytes a character, which some programs write, are two units.
        b"\x02\xf0\x9f\x98\x80",
    ] {
        assert_eq!(read(argument), Ok("v".to_owned()), "{argument:?}");
    }
}

#[test]
fn broken_forms_are_told_with_their_offset() {
    let start = with_argument(b"").len() - b"H\x01k\x01vZ".len();
    for (argument, what, offset) in [
        (&b"@"[..], "value", 0),
        (b"E", "value", 0),
        (b"Z", "value", 0),
        (b"O\x90", "class of object", 0),
        (b"`", "class of object", 0),
        (b"C\x01aI\x7f\xff\xff\xff", "count", 3),
        (b"C\x01aI\xff\xff\xff\xff", "negative number", 3),
        (b"XI\x7f\xff\xff\xff", "count", 1),
        (b"Q\x01a", "integer", 1),
        (b"\x01\x80", "character", 1),
        (b"\x01\xff", "character", 1),
        (b"R\0\x01aN", "string", 4),
        (b"A\0\x01aN", "binary", 4),
        (b"V\x01tN", "integer", 3),
    ] {
        let expected = Error::Malformed { what, offset: start + offset };
        assert_eq!(read(argument), Err(expected), "{argument:?}");
    }
}

#[test]
fn a_wrong_first_byte_shows_at_once() {
    let malformed = |offset| Err(Error::Malformed { what: "magic", offset });
    assert_eq!(Dubbo.split(Peer::Client, b"G", LIMIT), malformed(0));
    assert_eq!(Dubbo.split(Peer::Client, b"\xda\xbc", LIMIT), malformed(1));
    assert_eq!(Dubbo.split(Peer::Client, b"\xda", LIMIT), Ok(Step::NeedMore { at_least: 16 }));
    assert_eq!(Dubbo.split(Peer::Client, b"", LIMIT), Ok(Step::NeedMore { at_least: 16 }));
}

#[test]
fn depth_is_limited_without_recursion() {
    let nested = |depth: usize| [b"y".repeat(depth), b"N".to_vec()].concat();
    // One value a level: no level is come back to, and none counts.
    assert_eq!(read(&nested(100_000)), Ok("v".to_owned()));
    let nested = |depth: usize| [b"z".repeat(depth), b"N".repeat(depth + 1)].concat();
    assert_eq!(read(&nested(128)), Ok("v".to_owned()));
    assert!(matches!(read(&nested(130)), Err(Error::Unsupported { what: "depth of values", .. })));
    assert!(read(&b"H".repeat(100_000)).is_err());
    // Definitions without an end: they are in front of the map.
    assert_eq!(read(&b"C\0\x90".repeat(100_000)), Ok(String::new()));
}

#[test]
fn attachments_are_limited_in_number() {
    for (count, refused) in [(256, false), (257, true)] {
        let mut bytes = with_argument(b"N");
        let map = bytes.iter().rposition(|byte| *byte == b'H').unwrap();
        bytes.splice(map.., [&b"H"[..], &b"\0\0".repeat(count), b"Z"].concat());
        let length = u32::try_from(bytes.len() - 16).unwrap();
        bytes[12..16].copy_from_slice(&length.to_be_bytes());
        let read = Dubbo.head(&bytes, Depth::Attachments, &mut Head::new());
        assert_eq!(matches!(read, Err(Error::Unsupported { what: "number of attachments", .. })), refused);
        assert_eq!(read.is_err(), refused);
    }
}

#[test]
fn a_head_that_breaks_off_keeps_what_was_read() {
    let mut bytes = with_argument(b"N");
    let method = bytes.windows(2).position(|pair| pair == b"\x01m").unwrap();
    bytes[method] = b'Q';
    let mut head = Head::new();
    let error = Dubbo.head(&bytes, Depth::Head, &mut head).unwrap_err();
    assert_eq!(error, Error::Malformed { what: "string", offset: method });
    assert_eq!((head.get("interface"), head.get("version")), (Some("a.B"), Some("1")));
    assert_eq!(head.get("method"), None);
}

#[test]
fn a_null_version_is_left_out() {
    let mut bytes = with_argument(b"N");
    let version = bytes.windows(2).position(|pair| pair == b"\x011").unwrap();
    bytes.splice(version..version + 2, *b"N");
    bytes[15] -= 1;
    let mut head = Head::new();
    Dubbo.head(&bytes, Depth::Attachments, &mut head).unwrap();
    assert_eq!((head.get("version"), head.get("method"), head.get("k")), (None, Some("m"), Some("v")));
}

#[test]
fn lines_of_json_tell_the_front() {
    let body = b"\"2.0.2\"\n\"a.B\"\nnull\n\"m\"\n\"Ljava/lang/String;\"\n\"x\"\n{\"k\":\"v\"}\n";
    for id in [6, 16, 21] {
        let mut bytes = vec![0xda, 0xbb, 0xc0 | id, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        bytes.push(u8::try_from(body.len()).unwrap());
        bytes.extend_from_slice(body);
        let mut head = Head::new();
        Dubbo.head(&bytes, Depth::Attachments, &mut head).unwrap();
        assert_eq!((head.get("interface"), head.get("method")), (Some("a.B"), Some("m")));
        assert_eq!((head.get("version"), head.get("k")), (None, None));
        let types = head.get("parameterTypes");
        assert_eq!(types, Some("Ljava/lang/String;"));
    }
}

#[test]
fn an_unknown_serialization_is_routed_by_its_number() {
    let bytes = [0xda, 0xbb, 0xc0 | 30, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff];
    assert_eq!(frame(Peer::Client, &bytes).id, 1);
    let mut head = Head::new();
    Dubbo.head(&bytes, Depth::Attachments, &mut head).unwrap();
    assert_eq!(head.iter().collect::<Vec<_>>(), [("serialization", "30")]);
}

proptest! {
    #[test]
    fn any_strings_come_back(
        interface in any::<String>(),
        method in any::<String>(),
        attachments in prop::collection::vec((any::<String>(), any::<String>()), 0..8),
        arguments in prop::collection::vec(any::<String>(), 0..4),
        set in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let set: Vec<_> = set.into_iter().collect();
        let values: Vec<_> = arguments.iter().map(|text| text.as_str().into()).collect();
        let pairs: Vec<_> = attachments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut bytes = Vec::new();
        Request {
            interface: &interface,
            method: &method,
            arguments: &values,
            attachments: &pairs,
            ..Request::default()
        }
        .write(&mut bytes);
        let mut head = Head::new();
        Dubbo.head(&bytes, Depth::Attachments, &mut head).unwrap();
        prop_assert_eq!(head.get("interface"), Some(interface.as_str()));
        prop_assert_eq!(head.get("method"), Some(method.as_str()));
        let own = [("path", interface.as_str()), ("interface", &interface), ("version", "")];
        let mut expected: Vec<(&str, &str)> = Vec::new();
        for (name, value) in own.into_iter().chain(pairs.iter().copied()) {
            // What is said again is not heard.
            if !expected.iter().any(|(known, _)| *known == name) {
                expected.push((name, value));
            }
        }
        prop_assert_eq!(head.attachments().collect::<Vec<_>>(), expected);
        let changes: Vec<_> = set.iter().map(|(name, value)| Change::set(name, value)).collect();
        let mut out = Vec::new();
        Dubbo.rewrite(&bytes, &Edit { id: Some(5), changes: &changes, ..Edit::default() }, &mut out).unwrap();
        Dubbo.head(&out, Depth::Attachments, &mut head).unwrap();
        for (name, value) in &set {
            let found: Vec<_> = head.attachments().filter(|(other, _)| other == name).collect();
            prop_assert_eq!(found, [(name.as_str(), value.as_str())]);
        }
    }

    #[test]
    fn any_argument_is_read_or_refused(argument in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = with_argument(&argument);
        let mut head = Head::new();
        let _ = Dubbo.head(&bytes, Depth::Attachments, &mut head);
        let changes = [Change::set("k", "w")];
        let mut out = Vec::new();
        if Dubbo.rewrite(&bytes, &Edit { changes: &changes, ..Edit::default() }, &mut out).is_ok() {
            prop_assert_eq!(frame(Peer::Client, &out).len, out.len());
            Dubbo.head(&out, Depth::Attachments, &mut head).unwrap();
            let lane = head.attachments().filter(|(name, _)| *name == "k").last();
            prop_assert_eq!(lane, Some(("k", "w")));
        } else {
            prop_assert!(out.is_empty());
        }
    }
}
