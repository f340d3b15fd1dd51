//! The Thrift codec on frames that real programs wrote, and on what it makes of them.
mod edit;
mod hostile;
mod replies;
mod vectors;

use std::fs;
use std::path::PathBuf;

use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Change, Codec, Frame, Head, Peer, Step, Thrift};

/// The limit that tests give where none is tested.
const LIMIT: usize = 16 * 1024 * 1024;

/// Every transport, and what it carries: with `true` compressed.
const TRANSPORTS: [(Transport, bool); 6] = [
    (Transport::Unframed, false),
    (Transport::Framed, false),
    (Transport::THeader, false),
    (Transport::THeader, true),
    (Transport::TtHeader { framed: false }, false),
    (Transport::TtHeader { framed: true }, false),
];

const PROTOCOLS: [Protocol; 3] = [Protocol::Binary, Protocol::OldBinary, Protocol::Compact];

/// A frame of the golden vectors.
struct Vector {
    /// Folder and file, for messages.
    path: String,
    /// The file's name without `.bin`.
    name: String,
    from: Peer,
    bytes: Vec<u8>,
}

/// The files of one folder of `vectors/thrift`, in order of name: frames, or whole streams.
fn files(folder: &str, are_streams: bool) -> Vec<Vector> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/thrift").join(folder);
    let mut files: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bin"));
    let vectors = files.into_iter().map(|file| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let from = if name.contains(".resp") || name.contains(".s2c") { Peer::Server } else { Peer::Client };
        Vector { path: format!("{folder}/{name}"), name, from, bytes: fs::read(file).unwrap() }
    });
    let vectors: Vec<_> = vectors.filter(|vector| vector.name.contains(".stream.") == are_streams).collect();
    assert!(!vectors.is_empty(), "no vectors in {}", root.display());
    vectors
}

const FOLDERS: [&str; 6] =
    ["python-0.25.0", "old-python-0.25.0", "java-0.25.0", "go-0.25.0", "kitex-0.15.4", "kitex-peers-0.15.4"];

/// Every frame there is.
fn all_vectors() -> impl Iterator<Item = Vector> {
    FOLDERS.into_iter().flat_map(|folder| files(folder, false))
}

/// One frame.
fn vector(path: &str) -> Vector {
    all_vectors().find(|vector| vector.path == path).unwrap()
}

/// The frame that `bytes` hold.
fn frame(from: Peer, bytes: &[u8]) -> Frame {
    match Thrift.split(from, bytes, LIMIT) {
        Ok(Step::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// A call of `method` with the text `x`, in each transport and protocol.
fn calls(method: &str) -> Vec<Message<'_>> {
    let mut calls = Vec::new();
    for (transport, is_compressed) in TRANSPORTS {
        for protocol in PROTOCOLS {
            if matches!(transport, Transport::TtHeader { .. }) && protocol == Protocol::OldBinary {
                continue;
            }
            let content = Content::Call(b"x".into());
            let call = Message::new(transport, protocol, 0x0102_0304, method, content);
            calls.push(Message { is_compressed, ..call });
        }
    }
    calls
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes).unwrap();
    bytes
}

/// The attributes and headers in a head.
fn entries(head: &Head) -> Vec<(String, String)> {
    head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The changes that set and remove attachments.
fn changes(set: &[(&str, &str)], remove: &[&str]) -> Vec<Change> {
    let set = set.iter().map(|(name, value)| Change::set(*name, *value));
    set.chain(remove.iter().map(|name| Change::remove(*name))).collect()
}
