//! Any layout over any bytes: `cargo +nightly fuzz run codecs_layout`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    meltemi_proxy::plan::fuzz_layout(data);
});
