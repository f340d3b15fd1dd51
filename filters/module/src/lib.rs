//! The Wasm module that Envoy loads: every protocol of this workspace, or those that its build names as features.
#![cfg(target_arch = "wasm32")]

use std::rc::Rc;

use meltemi_codecs::{Codec, Codecs};

meltemi_wasm::module!(@ codecs());

fn codecs() -> Codecs {
    let codecs: Vec<Rc<dyn Codec>> = vec![
        #[cfg(feature = "dubbo")]
        Rc::new(meltemi_codecs::Dubbo),
        #[cfg(feature = "thrift")]
        Rc::new(meltemi_codecs::Thrift),
        #[cfg(feature = "brpc")]
        Rc::new(meltemi_codecs::Brpc),
        #[cfg(feature = "trpc")]
        Rc::new(meltemi_codecs::Trpc),
    ];
    Codecs::new(codecs)
}
