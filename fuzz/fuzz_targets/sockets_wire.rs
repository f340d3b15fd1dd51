//! Any bytes to both sides of the sockets, any calls in between: `cargo +nightly fuzz run sockets_wire`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_sockets::fuzz::fuzz_sockets(data));
