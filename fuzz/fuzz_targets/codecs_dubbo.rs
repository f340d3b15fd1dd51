//! Any bytes as Dubbo frames: `cargo +nightly fuzz run codecs_dubbo fuzz/corpus/codecs_dubbo codecs/vectors/dubbo/java-2.7.23
//! codecs/vectors/dubbo/java-3.3.5 codecs/vectors/dubbo/hessian-4.0.66`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meltemi_codecs::fuzz::fuzz_dubbo(data));
