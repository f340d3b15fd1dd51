//! Any bytes as tRPC frames: `cargo +nightly fuzz run codecs_trpc`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_codecs::fuzz::fuzz_trpc(data));
