//! Requests whose arguments a server may fail to read. Dubbo 2.7 then takes what is there for the attachments.
use std::time::{Duration, Instant};

use meltemi_codecs::{Codec, Depth, Dubbo, Head};

use super::{all_vectors, frame};

const OBJECT: &str = "Ljava/lang/Object;";
const STRING: &str = "Ljava/lang/String;";

fn text(text: &str) -> Vec<u8> {
    match u8::try_from(text.len()).unwrap() {
        len @ 0..32 => [&[len], text.as_bytes()].concat(),
        len => [&[0x30, len], text.as_bytes()].concat(),
    }
}

/// A call of `org.Open`, in version 1 and group `g`.
fn call(types: &str, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body: Vec<u8> = ["2.0.2", "org.Open", "1", "get", types].into_iter().flat_map(text).collect();
    body.extend(arguments.concat());
    body.push(b'H');
    body.extend(
        ["path", "org.Open", "version", "1", "group", "g", "interface", "org.Open"]
            .into_iter()
            .flat_map(text),
    );
    body.push(b'Z');
    request(&body)
}

fn request(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xda, 0xbb, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn is_sure(bytes: &[u8]) -> bool {
    let mut head = Head::new();
    Dubbo.head(bytes, Depth::Verified, &mut head).is_ok()
}

/// What a server of 2.7 was misled by: the first, word for word, made it call the service that was denied.
#[test]
fn maps_behind_what_breaks_are_refused() {
    let trap = b"H\x04path\x08org.ShutZ";
    for argument in [
        b"H\xc8\x64H\x04path\x09az.Secret\x07version\x031.0ZZ".to_vec(),
        [b"HQ\xc8\x64", &trap[..], b"Z"].concat(),
        [b"H", &trap[..], &trap[..], b"Z"].concat(),
        // Types, classes and numbers that only the server knows to be wrong.
        [b"H\x01a\x91\x01b", &trap[..], b"Z"].concat(),
        [b"M\x05a.Map\x01a", &trap[..], b"Z"].concat(),
        [b"\x72\x04[int", &trap[..], &trap[..]].concat(),
        [b"C\x03a.A\x92\x01a\x01b\x60\x91", &trap[..]].concat(),
        // In a text, in a binary, and across values.
        [b"S\x00\x13".as_slice(), trap, b"   "].concat(),
        [b"S\x00\x14\xf0   ".as_slice(), trap].concat(),
        [b"\x34\x13".as_slice(), trap, b"   "].concat(),
        b"\x7a\x01H\x7a\x04path\x08org.ShutZ\x91".to_vec(),
        // Strings in several pieces and longer forms than they need.
        b"\x79HR\x00\x02pa\x02th\x08org.ShutZ".to_vec(),
        b"\x79HR\x00\x00R\x00\x00\x04path\x08org.ShutZ".to_vec(),
        b"\x79HS\x00\x04path0\x08org.ShutZ".to_vec(),
        b"\x7aH0\x04path\x08org.ShutZZ".to_vec(),
        b"\x34\x19H\x04\xc1\xb0\xc1\xa1\xc1\xb4\xc1\xa8\x08org.ShutZ".to_vec(),
        // Of typed maps, in other versions and groups, or in none.
        b"\x79M\x05a.Map\x04path\x08org.ShutZ".to_vec(),
        b"\x79M\x00\x04path\x08org.ShutZ".to_vec(),
        b"\x79H\x07version\x012Z".to_vec(),
        b"\x79H\x07versionNZ".to_vec(),
        b"\x79H\x07version\x050.0.0Z".to_vec(),
        b"\x79H\x05group\x01hZ".to_vec(),
        b"\x79H\x05groupNZ".to_vec(),
        b"\x79H\x05group\x00Z".to_vec(),
        b"\x79H\x04path\x08org.Open\x04path\x08org.ShutZ".to_vec(),
        // Objects, whose fields may be taken for entries.
        b"\x79C\x03a.A\x91\x04path\x60\x08org.Shut".to_vec(),
        b"\x7aC\x03a.A\x91\x04path\x60\x08org.Open\x60\x08org.Shut".to_vec(),
        b"\x7aC\x03a.A\x92\x04path\x08org.Open\x60\x08org.Shut\x91O\x90\x08org.Open\x91".to_vec(),
        b"C\x03a.A\x92\x01a\x04path\x60\x60\x91\x08org.ShutN".to_vec(),
        b"\x7aC\x03a.A\x91\x01a\x60\x91C\x03a.B\x92\x01a\x07version\x61\x91\x012".to_vec(),
    ] {
        for arguments in [&[&*argument][..], &[b"\x91", &argument]] {
            let bytes = call(&"La/A;".repeat(arguments.len()), arguments);
            let shown = String::from_utf8_lossy(&argument);
            assert!(!is_sure(&bytes), "{shown:?}");
        }
    }
}

#[test]
fn what_servers_read_to_the_end_is_let_through() {
    let card = b"C\x03a.A\x93\x04path\x07version\x01n\x60\x08/tmp/abc\x95\x91";
    for (types, arguments) in [
        // In scalars of the parameter's type no server loses its place, whatever is in them.
        (STRING, &[b"0\x10H\x04path\x08org.ShutZ".as_slice()][..]),
        ("[B", &[b"\x34\x10H\x04path\x08org.ShutZ"]),
        (OBJECT, &[b"0\x10H\x04path\x08org.ShutZ"]),
        ("Ljava/lang/Integer;JLjava/util/Date;Z", &[b"\x91", b"\xe1", b"J\0\0\0\0\0\0\0\0", b"T"]),
        // The first of all is behind the server when it fails to read what is in it.
        (OBJECT, &[b"H\x04path\x08org.ShutZ"]),
        (OBJECT, &[b"M\x05a.Map\x07version\x012Z"]),
        ("La/A;", &[b"C\x03a.A\x92\x04path\x01n\x60\x08org.Shut\x91"]),
        // Names with values that are no service's.
        ("La/A;", &[card]),
        ("[La/A;", &[b"\x72\x04[a.AC\x03a.A\x92\x07version\x01n\x60\x95\x04text\x60\x96\x05other"]),
        ("Ljava/util/Map;I", &[b"H\x01aH\x04path\x04/tmp\x07version\x95\x05groupHZZZ", b"\x91"]),
        ("Ljava/util/Map;", &[b"H\x01aH\x04path\x08org.Open\x07version\x011\x05group\x01gZZ"]),
        // Names of which no map is made.
        ("Ljava/util/List;", &[b"\x7b\x04path\x07version\x05group"]),
        (OBJECT, &[b"\x7aC\x03a.A\x91\x04path\x60\x91\x05other"]),
    ] {
        assert!(is_sure(&call(types, arguments)), "{types} {arguments:?}");
    }
}

#[test]
fn references_to_nothing_are_refused() {
    for (argument, is_sound) in [
        (&b"HQ\x90\x91Z"[..], true),
        (b"HQ\x91\x91Z", false),
        (b"Q\x90", false),
        (b"M\x01aN\x91Z", true),
        (b"M\x90N\x91Z", false),
        (b"\x7aM\x01aN\x91ZM\x90N\x91Z", true),
        (b"\x60", false),
        (b"O\x90", false),
    ] {
        assert_eq!(is_sure(&call(OBJECT, &[argument])), is_sound, "{argument:?}");
    }
}

#[test]
fn improper_text_is_refused() {
    let surrogates = b"\x02\xed\xa0\xbd\xed\xb8\x80";
    let texts: [(&[u8], bool); 10] = [
        ("\x02é你".as_bytes(), true),
        (surrogates, true),
        ("\x02😀".as_bytes(), false),
        (b"\x01\xc1\xa1", false),
        (b"\x01\xc3A", false),
        (b"\x01\xe0\x80\x80", false),
        (b"\x01\xe4A\x80", false),
        (b"\x01\x80", false),
        (b"\x01\xff", false),
        (b"R\x00\x01a\x01b", true),
    ];
    for (text, is_proper) in texts {
        assert_eq!(is_sure(&call(STRING, &[text])), is_proper, "{text:?}");
        assert_eq!(is_sure(&call(OBJECT, &[&[b"H", text, b"\x91Z"].concat()])), is_proper, "{text:?}");
        assert_eq!(is_sure(&call(OBJECT, &[&[b"H\x91", text, b"Z"].concat()])), is_proper, "{text:?}");
    }
    let front = [b"\x052.0.2\x08\xc1\xaf".as_slice(), b"rg.Open\x011\x03get\x00HZ"].concat();
    assert!(!is_sure(&request(&front)));
}

#[test]
fn parts_of_a_service_that_may_be_put_together_otherwise_are_refused() {
    let plain = |path: &str, version: &str, group: Option<&str>| {
        let mut body: Vec<u8> = ["2.0.2", path, version, "get", ""].into_iter().flat_map(text).collect();
        body.push(b'H');
        body.extend(["path", path, "version", version].into_iter().flat_map(text));
        group.into_iter().for_each(|group| body.extend(["group", group].into_iter().flat_map(text)));
        body.push(b'Z');
        is_sure(&request(&body))
    };
    for (path, version, group, is_sound) in [
        ("org.Open", "1", None, true),
        ("org.Open", "1.0.0-beta_2", Some("blue-1"), true),
        ("org.Open", "", Some(""), true),
        ("org.Open", "0.0.0", None, true),
        ("org.Open", "*", None, false),
        ("org.Open", "1:20880", None, false),
        ("org.Open", "1/2", None, false),
        ("org.Shut:1", "", None, false),
        ("org.Shut:", "", None, false),
        ("g/org.Shut", "", None, false),
        ("/org.Shut", "", None, false),
        ("org.Open", "1", Some("g/h"), false),
        ("org.Open", "1", Some("g:1"), false),
        ("org.Open", "1", Some("*"), false),
    ] {
        assert_eq!(plain(path, version, group), is_sound, "{path} {version} {group:?}");
    }
}

#[test]
fn odd_descriptors_attachments_and_rests_are_refused() {
    assert!(!is_sure(&call("L-;", &[b"\x91"])));
    assert!(!is_sure(&call("V", &[b"\x91"])));
    let front: Vec<u8> = ["2.0.2", "org.Open", "1", "get", ""].into_iter().flat_map(text).collect();
    for (attachments, is_sound) in [
        (&b"H\x01aH\x01b\x91Z\x01c\x79\x01dZ"[..], true),
        (b"M\x11java.util.HashMap\x01a\x91Z", true),
        (b"M\x18java.util.jar.Attributes\x01a\x91Z", false),
        (b"H\x01aM\x05a.Map\x01b\x91ZZ", false),
        (b"H\x01aC\x03a.A\x90\x60Z", false),
        (b"H\x01aQ\x90Z", false),
        (b"HZHZ", false),
        (b"HZ\x00", false),
        (b"NN", false),
    ] {
        let bytes = request(&[&*front, attachments].concat());
        assert_eq!(is_sure(&bytes), is_sound, "{:?}", String::from_utf8_lossy(attachments));
    }
}

/// Time stays linear, whatever is nested in what: what would take longer is refused.
#[test]
fn looking_through_a_request_takes_linear_time() {
    let card = b"\x79C\x03a.A\x91\x04path\x60\x91".as_slice();
    for (unit, is_sound) in [
        (&b"H"[..], false),
        (b"H\x90", false),
        (b"\x7a", true),
        (b"HW", false),
        (b"\x60", false),
        (b"\x60\x00", false),
        (b"H\x78", false),
        (b"R\x00\x00", true),
        (b"\x60R\x00\x00", true),
        (b"C\x00I\x00\x00\x80\x00\x00", true),
        (b"\x60XI\x00\x0f\x00\x00\x90", false),
        (b"\x60\x04path", false),
        (b"\x04", true),
        (b"a", true),
    ] {
        let filler = unit.repeat((1 << 20) / unit.len());
        let piece =
            |piece: &[u8]| [b"A", &u16::try_from(piece.len()).unwrap().to_be_bytes()[..], piece].concat();
        let binary = [filler.chunks(0x8000).flat_map(piece).collect(), vec![0x20]].concat();
        let started = Instant::now();
        assert_eq!(is_sure(&call("La/A;La/A;", &[card, &binary])), is_sound, "{unit:?}");
        is_sure(&call("La/A;", &[&binary]));
        assert!(started.elapsed() < Duration::from_secs(5), "{unit:?}: {:?}", started.elapsed());
    }
}

#[test]
fn no_request_of_a_real_client_is_refused() {
    let is_call = |bytes: &[u8], from| {
        matches!(frame(from, bytes).kind, meltemi_codecs::Kind::Request | meltemi_codecs::Kind::OneWay)
    };
    let calls: Vec<_> = all_vectors()
        .filter(|vector| !vector.path.starts_with("hessian-") && is_call(&vector.bytes, vector.from))
        .collect();
    let refused: Vec<_> =
        calls.iter().filter(|vector| !is_sure(&vector.bytes)).map(|vector| &vector.path).collect();
    assert!(calls.len() > 20 && refused.is_empty(), "{refused:?} of {}", calls.len());
}
