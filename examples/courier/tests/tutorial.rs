//! The tutorial shows this crate's own code.
use std::fs;

/// The blocks of the tutorial that show `file`, one after the other.
fn shown(file: &str) -> String {
    let tutorial =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/private-protocol.md")).unwrap();
    let start = format!("```rust file={file}\n");
    let blocks = tutorial.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect()
}

fn source(file: &str) -> String {
    fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_tutorial_shows_the_whole_codec() {
    let codec = source("src/codec.rs");
    assert_eq!(shown("src/codec.rs"), codec);
    assert!(codec.lines().count() <= 100);
}

#[test]
fn the_tutorial_shows_how_the_module_is_made() {
    assert!(source("src/lib.rs").ends_with(&shown("src/lib.rs")));
}
