//! Frames of real programs, cut and spoilt at every byte, as declared layouts and Dubbo's codec read them.

mod frames;

use meltemi_codecs::fuzz::fuzz_front;
use meltemi_codecs::{Codec, Depth, Dubbo, Edit, Error, Failure, Head, Kind, Layout, Peer, Step};

use crate::frames::{of_text, text, vectors};

const LIMIT: usize = 1 << 20;

/// Dubbo, which has a codec, as a layout.
const DUBBO: &str = r#"
magic: dabb
length: {at: 12, as: u32, plus: 16}
id: {at: 4, as: u64}
kind: {at: 2, as: u8, mask: 0xe0, request: 0xc0, oneWay: 0x80, heartbeat: 0xe0, response: 0, heartbeatReply: 0x20}
header: 16
parts:
- {name: dubbo, prefix: u8, form: text}
- {name: service, prefix: u8, form: text}
- {name: version, prefix: u8, form: text}
- {name: method, prefix: u8, form: text}
status: {at: 3, as: u8, success: [20]}
service: service
method: method
"#;

fn layout(name: &str) -> Layout {
    of_text(name, &if name == "dubbo" { DUBBO.to_owned() } else { text(name) })
}

/// A frame that a program wrote, or one made by hand of a protocol that no program here speaks.
struct Vector {
    name: String,
    from: Peer,
    bytes: Vec<u8>,
}

fn written(folder: &str) -> Vec<Vector> {
    vectors(folder).into_iter().map(|(name, from, bytes)| Vector { name, from, bytes }).collect()
}

fn made(frames: &[(Peer, &[u8])]) -> Vec<Vector> {
    let vector = |(from, bytes): &(Peer, &[u8])| Vector {
        name: format!("{from:?} {}", bytes.escape_ascii()),
        from: *from,
        bytes: bytes.to_vec(),
    };
    frames.iter().map(vector).collect()
}

/// Codecs, and frames of theirs.
fn all() -> Vec<(&'static str, Box<dyn Codec>, Vec<Vector>)> {
    let dubbo = || {
        let peers = ["java-2.7.23", "java-3.3.5", "envoy-1.38.2"];
        peers.iter().flat_map(|peer| written(&format!("dubbo/{peer}"))).collect()
    };
    let courier: &[(Peer, &[u8])] = &[
        (Peer::Client, b"CR\x01\x00\0\0\0\x07\0\x01\0\0\0\0\0\x0c\x07depot/1body"),
        (Peer::Client, b"CR\x01\x04\0\0\0\x08\0\0\0\0\0\0\0\0"),
        (Peer::Server, b"CR\x01\x01\0\0\0\x07\0\0\0\0\0\0\0\x02ok"),
        (Peer::Server, b"CR\x01\x01\0\0\0\x07\0\0\0\x05\0\0\0\x04late"),
    ];
    let qza: &[(Peer, &[u8])] = &[
        (Peer::Client, b"qZA\x01\x1a\0\0\0\x07\0\0\0\0\0\x0e\0\x01\x02\x99\0\x02\x02\x01\0\x03\x04marybody"),
        (Peer::Server, b"qZA\x02\x0a\0\0\0\x07\0\0\0\xf8\x01\0\0no"),
        (Peer::Client, b"qZA\x04\x08\0\0\0\x07\0\0\0\0\0\0\0"),
    ];
    let long = [&b"VP\xc4\x01\0\0\0\0\0\0\0\x07\x10\0\0\x10cmd=play;room=12"[..], &[9; 168]].concat();
    let videopacket: &[(Peer, &[u8])] = &[
        (Peer::Client, &long),
        (Peer::Client, b"VP\x18\0\0\0\0\0\0\0\x07\x11\0\0\x08cmd=playbody"),
        (Peer::Server, b"VP\x0e\0\0\0\0\0\0\0\x07\x20\x04\0\0no"),
    ];
    let layout = |name| Box::new(layout(name)) as Box<dyn Codec>;
    vec![
        ("Dubbo's codec", Box::new(Dubbo), dubbo()),
        ("dubbo", layout("dubbo"), dubbo()),
        ("brpc", layout("brpc"), written("brpc/apache-brpc-1.17")),
        ("trpc", layout("trpc"), written("trpc/trpc-go-1.0.3")),
        ("bolt", layout("bolt"), written("bolt/sofa-bolt-node-2.0.1")),
        ("courier", layout("courier"), made(courier)),
        ("qza", layout("qza"), made(qza)),
        ("videopacket", layout("videopacket"), made(videopacket)),
    ]
}

/// Names and values, in their order.
type Attributes = Vec<(String, String)>;

/// Every result of reading what may be a frame and more.
#[derive(Debug, PartialEq)]
struct Read {
    step: Result<Step, Error>,
    heads: Vec<(Result<(), Error>, Attributes)>,
    rewritten: Option<(Result<(), Error>, Vec<u8>)>,
}

fn read(codec: &dyn Codec, from: Peer, input: &[u8]) -> Read {
    let step = codec.split(from, input, LIMIT);
    let mut read = Read { step, heads: Vec::new(), rewritten: None };
    let frame = match &read.step {
        Ok(Step::Frame(frame)) => *frame,
        Ok(Step::NeedMore { at_least }) => {
            assert!(*at_least > input.len() && *at_least <= LIMIT, "{at_least} of {}", input.len());
            return read;
        }
        Err(error) => {
            check_offset(error, input.len());
            return read;
        }
    };
    assert!(frame.len > 0 && frame.len <= input.len() && frame.head <= frame.len, "{frame:?}");
    let bytes = &input[..frame.len];
    if matches!(frame.kind, Kind::Request | Kind::OneWay) {
        for depth in [Depth::Operation, Depth::Head, Depth::Attachments, Depth::Verified] {
            let mut head = Head::new();
            let outcome = codec.head(bytes, depth, &mut head);
            outcome.as_ref().err().into_iter().for_each(|error| check_offset(error, frame.len));
            let found = head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            read.heads.push((outcome, found));
        }
    }
    let mut out = Vec::new();
    let edit = Edit { id: Some(codec.max_id() & 0x0102_0304), ..Edit::default() };
    let outcome = codec.rewrite(bytes, &edit, &mut out);
    if outcome.is_ok() {
        let again = codec.split(from, &out, LIMIT);
        assert!(matches!(again, Ok(Step::Frame(again)) if again.len == out.len()), "{again:?}");
    }
    read.rewritten = Some((outcome, out));
    let mut reply = Vec::new();
    codec.error_reply(&bytes[..frame.head], Failure::Timeout, "late", &mut reply);
    codec.heartbeat_reply(bytes, &mut reply);
    read
}

fn check_offset(error: &Error, len: usize) {
    match error {
        Error::Malformed { offset, .. } | Error::Unsupported { offset, .. } => {
            assert!(*offset <= len, "{error} of {len}");
        }
        _ => {}
    }
}

#[test]
fn a_frame_cut_at_every_byte_is_waited_for_and_is_then_the_same() {
    for (name, codec, vectors) in all() {
        for Vector { name: file, from, bytes } in vectors {
            let whole = read(&*codec, from, &bytes);
            let Ok(Step::Frame(frame)) = &whole.step else { panic!("{name} {file}: {whole:?}") };
            assert_eq!(frame.len, bytes.len(), "{name} {file}");
            // It comes in pieces: of what is there, nothing is said but how much is missing.
            for cut in 0..bytes.len() {
                let step = codec.split(from, &bytes[..cut], LIMIT);
                let Ok(Step::NeedMore { at_least }) = step else {
                    panic!("{name} {file} at {cut}: {step:?}")
                };
                assert!(cut < at_least && at_least <= bytes.len(), "{name} {file} at {cut}: {at_least}");
            }
            fuzz_front(&*codec, from, &bytes);
            for next in [&bytes[..], &[0; 64], &[0xff; 64]] {
                assert_eq!(read(&*codec, from, &[&bytes, next].concat()), whole, "{name} {file}");
            }
        }
    }
}

#[test]
fn a_frame_with_any_byte_spoilt_is_read_within_its_bounds() {
    for (name, codec, vectors) in all() {
        let (mut taken, mut refused) = (0, 0);
        for Vector { name: file, from, mut bytes } in vectors {
            // In the middle of a long text, one byte is like another.
            let len = bytes.len();
            for at in (0..len).filter(|at| *at < 2048 || len - at < 256) {
                let own = bytes[at];
                for byte in [0x00, 0xff, 0x7f].into_iter().filter(|byte| *byte != own) {
                    bytes[at] = byte;
                    let spoilt = read(&*codec, from, &bytes);
                    let Ok(Step::Frame(frame)) = &spoilt.step else {
                        refused += 1;
                        continue;
                    };
                    taken += 1;
                    // Nothing behind the frame is read.
                    let noise = [&bytes[..frame.len], &[0xaa; 32]].concat();
                    assert_eq!(read(&*codec, from, &noise), spoilt, "{name} {file} with {byte:#x} at {at}");
                }
                bytes[at] = own;
            }
        }
        assert!(taken > 100 && refused > 10, "{name}: {taken} taken, {refused} refused");
    }
}
