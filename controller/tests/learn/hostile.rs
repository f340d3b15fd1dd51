//! Captures, dumps and bytes that are broken in every way: one error, or what is right in them.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use meltemi::decode::{self, Form, Manner, View};
use meltemi::learn::{self, Wish};
use meltemi_codecs::{Codec, Codecs};

use crate::packets::Capture;
use crate::talks::{capture, protocols};

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        [0, 1, 0x7f, 0x80, 0xff, u8::try_from(self.below(256)).unwrap()][self.below(6)]
    }

    /// Bytes changed, cut out, doubled and put in, here and there.
    fn broken(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + self.below(6) {
            let (at, len) = (self.below(bytes.len()), self.below(40));
            let end = (at + len).min(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                3 => {
                    let noise: Vec<u8> = (0..len).map(|_| self.byte()).collect();
                    bytes.splice(at..at, noise);
                }
                _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte = self.byte()),
            }
        }
        bytes
    }
}

/// What tcpdump wrote, and captures of every protocol.
fn captures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end != "md"));
    let written = files.map(|path| fs::read(path).unwrap());
    written.chain(protocols().into_iter().map(|(_, talks)| capture(&talks).bytes().to_vec())).collect()
}

fn codecs() -> Vec<Rc<dyn Codec>> {
    let codecs = Codecs::all();
    codecs.names().map(|name| codecs.get(name).unwrap().clone()).collect()
}

/// Reads bytes, and gives whether they were right, and the lines that they made.
fn read(form: Form, view: View, bytes: &[u8]) -> (bool, usize) {
    let mut output = Vec::new();
    let manner = Manner { max_frame_bytes: 1 << 20, form, view };
    let outcome = decode::read(&codecs(), manner, bytes, &mut output);
    if let Err(error) = &outcome {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    (outcome.is_ok(), output.split(|byte| *byte == b'\n').count() - 1)
}

#[test]
fn broken_captures_are_read_or_refused() {
    let mut random = Random(7);
    let (mut learnt, mut refused, mut lines) = (0, 0, 0);
    for capture in captures() {
        for _ in 0..60 {
            let broken = random.broken(&capture);
            let (text, error) = learn::learn(&*broken, &Wish::default());
            assert!(text.is_some() || error.is_some());
            learnt += usize::from(text.is_some());
            refused += usize::from(error.is_some());
            // A call takes more bytes in a capture than an empty line.
            let (_, count) = read(Form::Capture, View::Lines, &broken);
            assert!(count <= broken.len());
            lines += count;
        }
    }
    assert!(learnt > 100 && refused > 100 && lines > 1000, "{learnt}, {refused}, {lines}");
}

#[test]
fn broken_frames_and_dumps_are_read_or_refused() {
    let mut random = Random(11);
    let (mut right, mut lines) = (0, 0);
    for (_, talks) in protocols() {
        let frames: Vec<u8> = talks.iter().flatten().flat_map(|(_, bytes)| bytes.clone()).collect();
        let hex: String = frames.chunks(16).fold(String::new(), |text, row| {
            let row: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            text + &row.join(" ") + "\n"
        });
        for round in 0..40 {
            let view = [View::Lines, View::Bytes][round % 2];
            for (form, bytes) in [(Form::Raw, &frames[..]), (Form::Hex, hex.as_bytes())] {
                let (is_right, count) = read(form, view, &random.broken(bytes));
                right += usize::from(is_right);
                lines += count;
                read(Form::Auto, view, &random.broken(bytes));
            }
        }
    }
    assert!(right > 10 && lines > 1000, "{right}, {lines}");
}

/// What a newcomer may give in place of a capture.
#[test]
fn what_is_no_capture_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let no_capture = "offset 0: this is no capture of packets; both sides of connections are needed, as tcpdump writes them";
    for (path, why) in [
        (folder.path().to_owned(), "cannot read: Is a directory (os error 21)"),
        (file("empty", b""), no_capture),
        (file("notes.txt", b"what we know of the protocol\n"), no_capture),
        (file("layout.yaml", b"magic: 4352\n"), no_capture),
        (
            file("head.pcap", &capture(&[]).bytes()[..24]),
            "the capture has no TCP connection that sends anything",
        ),
    ] {
        let mut command = assert_cmd::Command::cargo_bin("meltemi").unwrap();
        let output = command.arg("learn").arg(&path).assert().code(1).get_output().clone();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error, format!("error: {}: {why}\n", path.display()));
        assert!(output.stdout.is_empty());
    }
    // One call, and no call at all.
    for count in [1, 2] {
        let talk: Vec<(bool, Vec<u8>)> =
            protocols().swap_remove(0).1.swap_remove(0).into_iter().take(count).collect();
        let (text, error) = learn::learn(capture(&[talk]).bytes(), &Wish::default());
        assert!(text.is_none());
        assert_eq!(error.unwrap().to_string().lines().count(), 1);
    }
}

/// Captures that are large, or of many small pieces: what is looked at of them is bounded, and said.
#[test]
fn no_capture_takes_long() {
    let zeros = vec![0; 1448];
    let mut random = Random(13);
    let noise: Vec<u8> = (0..4 << 20).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
    let frame = |id: u32, len: usize| {
        let body = vec![0; len];
        [&u32::try_from(len).unwrap().to_be_bytes()[..], &id.to_be_bytes(), &body].concat()
    };
    // Zeros on many connections, said in turns of different lengths; after that, on one connection to its server.
    let mut of_zeros = Capture::new();
    for number in 0..40 {
        let mut connection = of_zeros.connect(40000 + number, 7000);
        for turn in 0..200 {
            of_zeros.ask(&mut connection, &zeros[turn % 7..]);
            of_zeros.answer(&mut connection, &zeros[turn % 5..]);
        }
        of_zeros.close(connection);
    }
    let mut of_noise = Capture::new();
    let mut connection = of_noise.connect(40000, 7000);
    for part in noise.chunks(1400) {
        of_noise.ask(&mut connection, part);
        of_noise.answer(&mut connection, part);
    }
    // Each byte is a turn.
    let mut of_bytes = Capture::new();
    let mut connection = of_bytes.connect(40000, 7000);
    for _ in 0..100_000 {
        of_bytes.ask(&mut connection, &[0]);
        of_bytes.answer(&mut connection, &[0]);
    }
    for capture in [&of_zeros, &of_noise, &of_bytes] {
        let (text, error) = learn::learn(capture.bytes(), &Wish::default());
        assert!(text.is_none());
        let error = error.unwrap().to_string();
        assert!(error.contains("nothing near the start of frames says how long they are"), "{error}");
        assert_eq!(error.contains("; looked at "), std::ptr::eq(capture, &of_noise), "{error}");
    }
    // Tiny frames that are what they say; those that are looked at make a layout.
    let mut of_frames = Capture::new();
    let mut connection = of_frames.connect(40000, 7000);
    for id in 0..100_000 {
        of_frames.ask(&mut connection, &frame(id, id as usize % 3));
        of_frames.answer(&mut connection, &frame(id, id as usize % 2));
    }
    let (text, error) = learn::learn(of_frames.bytes(), &Wish::default());
    assert!(error.is_none(), "{error:?}");
    let text = text.unwrap();
    assert!(text.contains("# Learnt from 1 of 1 connections to 127.0.0.1:7000: 50000 frames, "), "{text}");
    assert!(text.contains("# Not all: looked at "), "{text}");
    assert!(text.contains("length: {at: 0, as: u32, plus: 8}\n"), "{text}");
}
