//! Any bytes as a plan, and calls that meet its rules: `cargo +nightly fuzz run plan -- -dict=fuzz/dictionaries/plan.dict`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meltemi_codecs::Codecs;

fuzz_target!(|data: &[u8]| meltemi_proxy::plan::fuzz_plan(data, &Codecs::all()));
