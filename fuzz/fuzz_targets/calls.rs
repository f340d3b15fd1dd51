//! Plans and requests made of any bytes: `cargo +nightly fuzz run calls`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_proxy::plan::fuzz_calls(data));
