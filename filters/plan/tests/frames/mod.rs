//! The layouts of `examples/layouts`, and frames of real programs.

use std::fs;
use std::path::{Path, PathBuf};

use meltemi_codecs::{Layout, Peer};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of an example.
pub fn text(name: &str) -> String {
    fs::read_to_string(root().join(format!("examples/layouts/{name}.yaml"))).unwrap()
}

/// The layout that a text declares.
pub fn of_text(name: &str, text: &str) -> Layout {
    let raw = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    meltemi_plan::layout(name, &raw).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The frames of a folder of `codecs/vectors`: the file's name, who sent it, and its bytes.
pub fn vectors(folder: &str) -> Vec<(String, Peer, Vec<u8>)> {
    let files = fs::read_dir(root().join("codecs/vectors").join(folder)).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_answer = name.ends_with(".resp") || name.contains(".s2c.");
        (name, if is_answer { Peer::Server } else { Peer::Client }, fs::read(path).unwrap())
    };
    files.into_iter().map(read).collect()
}
