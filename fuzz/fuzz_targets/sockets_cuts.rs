//! Any input to the sockets, whole and in pieces: `cargo +nightly fuzz run sockets_cuts`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_sockets::fuzz::fuzz_cuts(data));
