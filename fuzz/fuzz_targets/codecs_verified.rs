//! Dubbo requests that are verified, against a model of a server that loses its place: `cargo +nightly fuzz run codecs_verified`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_codecs::fuzz::fuzz_verified(data));
