//! Any bytes as courier frames: `cargo +nightly fuzz run codecs_courier`.
#![no_main]

use courier::Courier;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_codecs::fuzz::fuzz_codec(&Courier, data));
