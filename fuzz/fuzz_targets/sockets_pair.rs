//! Two of our own sockets with each other, under any schedule: `cargo +nightly fuzz run sockets_pair`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_sockets::fuzz::fuzz_pair(data));
