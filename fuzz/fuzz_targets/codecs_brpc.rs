//! Any bytes as brpc frames: `cargo +nightly fuzz run codecs_brpc`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_codecs::fuzz::fuzz_brpc(data));
