//! Any bytes as header blocks: `cargo +nightly fuzz run sockets_compression`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_sockets::fuzz::fuzz_compression(data));
