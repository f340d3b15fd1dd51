//! Any bytes as a capture to learn from: `cargo +nightly fuzz run learn fuzz/corpus/learn fuzz/seeds/learn`.
//!
//! The modules are built from their source: with all that the controller depends on, the targets would take minutes to build.
#![no_main]

#[allow(dead_code)]
#[path = "../../controller/src/capture/mod.rs"]
mod capture;
#[allow(dead_code)]
#[path = "../../controller/src/learn/mod.rs"]
mod learn;
#[path = "../../controller/src/plain.rs"]
mod plain;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (text, error) = learn::learn(data, &learn::Wish::default());
    assert!(text.is_some() || error.is_some());
    if let Some(error) = error {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
});
