//! The tutorial shows this crate's own code.
use std::fs;

/// The blocks of the tutorial that show `file`, one after the other.
fn shown(file: &str) -> String {
    let tutorial =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/private-protocol.md")).unwrap();
    let kind = if file.ends_with(".yaml") { "yaml" } else { "rust" };
    let start = format!("```{kind} file={file}\n");
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
    assert!(codec.lines().count() <= 110);
}

#[test]
fn the_tutorial_shows_how_the_module_is_made() {
    assert!(source("src/lib.rs").ends_with(&shown("src/lib.rs")));
}

#[test]
fn the_tutorial_shows_the_whole_layout_in_fifteen_lines() {
    let layout = source("../layouts/courier.yaml");
    assert_eq!(shown("examples/layouts/courier.yaml"), layout);
    assert!(layout.lines().count() <= 15);
}
