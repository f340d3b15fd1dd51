//! Requests that calls are denied by: a server must not understand them in another way.
use meltemi_codecs::{Codec, Depth, Dubbo, Error, Head, Kind};

use super::{all_vectors, frame};

const HESSIAN: u8 = 2;
const FASTJSON2: u8 = 23;

fn request(serialization: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xda, 0xbb, 0xc0 | serialization, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn hessian(text: &str) -> Vec<u8> {
    assert!(text.len() < 32);
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A value of fastjson2: a string, after its length.
fn json(text: &str) -> Vec<u8> {
    let bytes = jsonb(text);
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), &*bytes].concat()
}

fn jsonb(text: &str) -> Vec<u8> {
    assert!(text.len() < 48);
    [&[0x49 + text.len() as u8], text.as_bytes()].concat()
}

/// A call of `method` of `org.Open` in version 1, whose parameters have the descriptor `types`; with these attachments, in
/// both serializations.
fn calls(method: &str, types: &str, argument: Option<&str>, attachments: &[(&str, &str)]) -> [Vec<u8>; 2] {
    let front = ["2.0.2", "org.Open", "1", method, types];
    let texts = || front.into_iter().chain(argument);
    let mut body: Vec<u8> = texts().flat_map(hessian).collect();
    let pairs = || attachments.iter().flat_map(|&(name, value)| [name, value]);
    body.push(b'H');
    body.extend(pairs().flat_map(hessian));
    body.push(b'Z');
    let mut binary: Vec<u8> = texts().flat_map(json).collect();
    let map = [&[0xa6], &*pairs().flat_map(jsonb).collect::<Vec<_>>(), &[0xa5]].concat();
    binary.extend_from_slice(&u32::try_from(map.len()).unwrap().to_be_bytes());
    binary.extend_from_slice(&map);
    [request(HESSIAN, &body), request(FASTJSON2, &binary)]
}

fn verify(bytes: &[u8]) -> Result<Head, Error> {
    let mut head = Head::new();
    Dubbo.head(bytes, Depth::Verified, &mut head).map(|()| head)
}

#[test]
fn what_real_clients_send_leaves_no_doubt() {
    let mut count = 0;
    for vector in all_vectors().filter(|vector| !vector.path.starts_with("hessian-")) {
        if !matches!(frame(vector.from, &vector.bytes).kind, Kind::Request | Kind::OneWay) {
            continue;
        }
        count += 1;
        let head = verify(&vector.bytes).unwrap_or_else(|error| panic!("{}: {error}", vector.path));
        let mut other = Head::new();
        Dubbo.head(&vector.bytes, Depth::Attachments, &mut other).unwrap();
        assert!(head.attributes().eq(other.attributes()), "{}", vector.path);
        let names = ["path", "interface", "version"];
        let others = other.attachments().filter(|(name, _)| !names.contains(name));
        assert!(head.attachments().eq(others), "{}", vector.path);
    }
    assert!(count > 20, "{count}");
}

#[test]
fn attachments_that_say_something_else_are_refused() {
    let same = ("path", "org.Open");
    for (attachments, is_sure) in [
        (&[][..], true),
        (&[same, ("interface", "org.Open"), ("version", "1"), ("tag", "x")], true),
        (&[("path", "org.Shut")], false),
        (&[("path", "")], false),
        (&[same, ("path", "org.Shut")], false),
        (&[same, same], true),
        (&[same, ("version", "2")], false),
        (&[same, ("version", "")], false),
        // A service may have a path of its own. Whoever uses the interface does so without a path.
        (&[same, ("interface", "org.Other")], true),
        (&[("interface", "org.Other"), same], true),
        (&[("interface", "org.Shut")], false),
        (&[("interface", "org.Open")], true),
        (&[("group", "a"), ("group", "b")], false),
        (&[("tag", "a"), ("group", "a"), ("tag", "a")], false),
    ] {
        for bytes in calls("get", "", None, attachments) {
            assert_eq!(verify(&bytes).is_ok(), is_sure, "{attachments:?}");
            assert!(Dubbo.head(&bytes, Depth::Attachments, &mut Head::new()).is_ok());
        }
    }
}

#[test]
fn attachments_cannot_stand_in_for_what_the_protocol_tells() {
    for bytes in calls("delete", "", None, &[("genericMethod", "get"), ("tag", "x")]) {
        let head = verify(&bytes).unwrap();
        assert_eq!((head.get("genericMethod"), head.get("tag")), (None, Some("x")));
    }
}

#[test]
fn a_generic_call_must_name_its_method_as_the_server_reads_it() {
    for (method, is_sure) in [("delete", true), (" delete", false), ("delete\n", false)] {
        for bytes in calls("$invoke", "Ljava/lang/String;", Some(method), &[]) {
            let head = verify(&bytes).ok();
            assert_eq!(head.as_ref().and_then(|head| head.get("genericMethod")), is_sure.then_some(method));
        }
    }
    let front: Vec<u8> = ["2.0.2", "org.Open", "1", "$invoke", "I"].into_iter().flat_map(hessian).collect();
    assert!(verify(&request(HESSIAN, &[&*front, b"\x90HZ"].concat())).is_err());
}

/// Beans are made of as many arguments as there are, for methods with any other number of parameters.
#[test]
fn a_generic_call_must_have_as_many_arguments_as_it_says() {
    for (way, is_sure) in
        [("true", true), ("gson", true), ("bean", false), ("BEAN", false), ("nativejava", false)]
    {
        for bytes in calls("$invoke", "Ljava/lang/String;", Some("delete"), &[("generic", way)]) {
            assert_eq!(verify(&bytes).is_ok(), is_sure, "{way}");
        }
        for bytes in calls("get", "", None, &[("generic", way)]) {
            assert!(verify(&bytes).is_ok(), "{way}");
        }
    }
}

#[test]
fn what_cannot_be_read_to_its_end_is_refused() {
    let front: Vec<u8> = ["2.0.2", "org.Open", "1", "get", ""].into_iter().flat_map(hessian).collect();
    for (attachments, is_sure) in [
        (&b""[..], true),
        (b"N", true),
        (b"HZ", true),
        (b"M\x11java.util.TreeMap\x04path\x08org.OpenZ", true),
        // A map may take one name for another.
        (b"M\x0corg.AnyCases\x04PATH\x08org.ShutZ", false),
        (b"M\x90Z", false),
        // A reference to a map that was an argument.
        (b"Q\x90", false),
        (b"H\x04path\x91Z", false),
        (b"H\x91\x04pathZ", false),
        (b"H\x04path\x08org.Open", false),
        (b"\x91", false),
    ] {
        let bytes = request(HESSIAN, &[&*front, attachments].concat());
        assert_eq!(verify(&bytes).is_ok(), is_sure, "{attachments:?}");
    }
    for missing in [1, 3] {
        let mut front: Vec<_> = ["2.0.2", "org.Open", "1", "get", ""].map(hessian).to_vec();
        front[missing] = vec![b'N'];
        assert!(verify(&request(HESSIAN, &[front.concat(), b"HZ".to_vec()].concat())).is_err());
    }
    // Lines of JSON, whose attachments are not read, and what is not read at all.
    assert!(verify(&request(6, b"\"2.0.2\"\n\"org.Open\"\n\"1\"\n\"get\"\n\"\"\n{}\n")).is_err());
    assert!(verify(&request(8, b"kryo")).is_err());
}

#[test]
fn many_attachments_are_too_many() {
    let names: Vec<_> = (0..257).map(|number| format!("name{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    for (count, is_sure) in [(256, true), (257, false)] {
        for bytes in calls("get", "", None, &all[..count]) {
            assert_eq!(verify(&bytes).is_ok(), is_sure);
            // Where nothing is denied the first ones hold, and it is said that there are more.
            let mut head = Head::new();
            let read = Dubbo.head(&bytes, Depth::Attachments, &mut head);
            assert_eq!(read.is_ok(), is_sure);
            assert_eq!((head.attachments().count(), head.get("name255")), (256, Some("x")));
        }
    }
}
