//! The Dubbo codec on frames that real programs wrote, and on what it makes of them.
mod edit;
mod hostile;
mod messages;
mod misread;
mod replies;
mod vectors;
mod verified;

use std::fs;
use std::path::PathBuf;

use meltemi_codecs::{Codec, Dubbo, Frame, Head, Peer, Step};

/// The limit that tests give where none is tested.
const LIMIT: usize = 16 * 1024 * 1024;

/// A frame of the golden vectors.
struct Vector {
    /// Folder and file, for messages.
    path: String,
    /// The file's name without `.bin`.
    name: String,
    from: Peer,
    bytes: Vec<u8>,
}

/// The frames of one folder of `vectors/dubbo`, in order of name.
fn vectors(folder: &str) -> Vec<Vector> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/dubbo").join(folder);
    let mut files: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bin"));
    assert!(!files.is_empty(), "no vectors in {}", root.display());
    files
        .into_iter()
        .map(|file| {
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let from = if name.contains(".s2c.") { Peer::Server } else { Peer::Client };
            Vector { path: format!("{folder}/{name}"), name, from, bytes: fs::read(file).unwrap() }
        })
        .collect()
}

/// One frame.
fn vector(path: &str) -> Vector {
    let (folder, name) = path.split_once('/').unwrap();
    vectors(folder).into_iter().find(|vector| vector.name == name).unwrap()
}

/// Every frame there is.
fn all_vectors() -> impl Iterator<Item = Vector> {
    ["java-2.7.23", "java-3.3.5", "envoy-1.38.2", "hessian-4.0.66"].into_iter().flat_map(vectors)
}

/// The frame that `bytes` hold.
fn frame(from: Peer, bytes: &[u8]) -> Frame {
    match Dubbo.split(from, bytes, LIMIT) {
        Ok(Step::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// The attributes and attachments in a head.
fn entries(head: &Head) -> Vec<(String, String)> {
    head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
