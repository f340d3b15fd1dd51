//! Peers of a worker that do anything: `cargo +nightly fuzz run worker`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_proxy::fuzz::fuzz_worker(data));
