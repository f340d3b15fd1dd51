//! Any bytes as Thrift messages: `cargo +nightly fuzz run codecs_thrift fuzz/corpus/codecs_thrift
//! codecs/vectors/thrift/*/`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_codecs::fuzz::fuzz_thrift(data));
