//! Requests around honest ones, against a model of a server that loses its place.
use super::java::{Java, Service};
use crate::dubbo::Header;
use crate::{Codec, Depth, Dubbo, Head};

const PATH: &str = "a.Open";

/// Parameter types.
const TYPES: [&str; 6] = [
    "Ljava/lang/Object;",
    "La/A;",
    "La/A;La/A;",
    "Ljava/lang/String;Ljava/lang/Object;",
    "ILa/A;",
    "La/A;Ljava/lang/Object;La/A;",
];

/// Pieces of arguments: names that matter and values of them, starts and ends of values, and what breaks.
const PIECES: [&[u8]; 40] = [
    b"\x04path",
    b"\x07version",
    b"\x05group",
    b"S\x00\x04path",
    b"0\x04path",
    b"R\x00\x02pa\x02th",
    b"\x04\xc1\xb0\xc1\xa1\xc1\xb4\xc1\xa8",
    b"\x06a.Shut",
    b"\x06a.Open",
    b"\x012",
    b"\x011",
    b"\x050.0.0",
    b"\x04/tmp",
    b"H",
    b"Z",
    b"H\x04path\x06a.ShutZ",
    b"H\x07version\x012Z",
    b"H\x05groupNZ",
    b"M\x03a.A",
    b"M\x90",
    b"W",
    b"\x79",
    b"\x7a",
    b"\x72\x03a.A",
    b"X\x92",
    b"XT",
    b"V\x03a.A\x91",
    b"C\x03a.A\x91\x04path\x60",
    b"C\x03a.A\x92\x01n\x04path\x60",
    b"C\x03a.B\x92\x07version\x05group\x61",
    b"C\x03a.B\x90\x61",
    b"\x60",
    b"\x61",
    b"O\x90",
    b"Q\x90",
    b"Q\xc8\x64",
    b"N",
    b"\x91",
    b"\x2f",
    b"S\x00\x20",
];

/// Makes a request of `data`, and when it is verified asserts that a server that loses its place calls no other service.
pub fn fuzz_verified(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let types = TYPES
        .get(usize::from(choice).checked_rem(TYPES.len()).unwrap_or_default())
        .copied()
        .unwrap_or_default();
    let mut arguments = Vec::new();
    for byte in data.iter().take(256) {
        match PIECES.get(usize::from(byte.wrapping_sub(b'!'))) {
            Some(piece) => arguments.extend_from_slice(piece),
            None => arguments.push(*byte),
        }
    }
    check(types, &arguments);
}

fn check(types: &str, arguments: &[u8]) {
    let mut rest = arguments.to_vec();
    rest.push(b'H');
    for text in ["path", PATH, "version", "1", "group", "g", "interface", PATH] {
        put(text, &mut rest);
    }
    rest.push(b'Z');
    let mut body = Vec::new();
    for text in ["2.0.2", PATH, "1", "get", types] {
        put(text, &mut body);
    }
    body.extend_from_slice(&rest);
    let mut frame = Vec::new();
    let length = u32::try_from(body.len()).unwrap_or_default();
    Header { flags: 0xc2, status: 0, id: 1, length }.write(&mut frame);
    frame.extend_from_slice(&body);
    if Dubbo.head(&frame, Depth::Verified, &mut Head::new()).is_err() {
        return;
    }
    if let Some(service) = misled(types, &rest) {
        super::panic_on(
            "a server calls what was verified",
            &(&service, types, arguments.escape_ascii().to_string()),
        );
    }
}

fn put(text: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).unwrap_or_default();
    match length {
        0..=31 => out.push(length),
        _ => out.extend_from_slice(&[0x30, length]),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Another service that a server may call that fails somewhere in the arguments.
fn misled(types: &str, body: &[u8]) -> Option<Service> {
    let mut java = Java::new(body);
    let mut lost = None;
    for kind in types.split_inclusive(';').flat_map(|kind| match kind.strip_prefix('I') {
        Some(rest) => vec!["I", rest],
        None => vec![kind],
    }) {
        if lost.is_none() && !is_read_for_sure(kind, *java.rest().first()?) {
            let mut inside = java.clone();
            lost = Some(if inside.opening().is_some() { inside } else { java.clone() });
        }
        java.skip()?;
    }
    // Classes are known up to where the server fails: none, the first, or all that are defined in order.
    let (lost, end) = (lost?, java);
    let mut rest = lost.rest();
    while !rest.is_empty() {
        for reader in [lost.at(rest), end.at(rest)] {
            if let Some(service) = reader.attachments().filter(is_another) {
                return Some(service);
            }
        }
        rest = rest.get(1..)?;
    }
    None
}

fn is_read_for_sure(kind: &str, tag: u8) -> bool {
    let is_text = matches!(tag, 0x00..=0x1f | 0x30..=0x33 | b'R' | b'S');
    let has_values = matches!(tag, b'C' | b'H' | b'M' | b'O' | b'Q' | 0x55..=0x58 | 0x60..=0x7f);
    match kind {
        _ if tag == b'N' => true,
        "I" => matches!(tag, 0x80..=0xd7 | b'I'),
        "Ljava/lang/String;" => is_text,
        "Ljava/lang/Object;" => !has_values,
        _ => false,
    }
}

fn is_another(service: &Service) -> bool {
    let path = service.path.as_deref().is_some_and(|path| path != PATH && !path.starts_with('/'));
    let version = service.version.as_ref().is_some_and(|version| version.as_deref() != Some("1"));
    let group = service.group.as_ref().is_some_and(|group| group.as_deref() != Some("g"));
    path || version || group
}

#[cfg(test)]
mod tests {
    use super::{TYPES, check, fuzz_verified, misled};

    #[test]
    fn the_model_is_misled() {
        for (types, body) in [
            ("La/A;", &b"HQ\xc8\x64H\x04path\x06a.ShutZZ"[..]),
            ("Ljava/lang/Object;", b"\x79H\x05groupNZ"),
            ("La/A;", b"\x7aC\x03a.A\x91\x04path\x60\x91\x60\x06a.Shut"),
            ("ILa/A;", b"\x91\x34\x0fH\x04path\x06a.ShutZ "),
        ] {
            assert!(misled(types, body).is_some(), "{body:?}");
        }
        for (types, body) in [
            ("La/A;", &b"H\x04path\x06a.ShutZ"[..]),
            ("Ljava/lang/String;Ljava/lang/Object;", b"0\x0eH\x04path\x06a.ShutZ\x91"),
            ("La/A;", b"\x79H\x04path\x06a.OpenZ"),
        ] {
            assert_eq!(misled(types, body), None, "{body:?}");
        }
    }

    #[test]
    fn no_verified_request_misleads_the_model() {
        let mut state = 1_u64;
        let mut next = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for _ in 0..200_000 {
            let mut data = vec![next(6) as u8];
            for _ in 0..next(9) {
                data.push(b'!' + next(42) as u8);
            }
            fuzz_verified(&data);
        }
        TYPES.iter().for_each(|types| check(types, b""));
    }
}
