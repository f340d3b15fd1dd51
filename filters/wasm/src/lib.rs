//! The Proxy-Wasm shell: it carries bytes between Envoy's buffers and a [`Worker`], and the worker's telemetry to
//! Envoy's metrics and log. A module of one's own is a list of codecs in one macro call:
//!
//! ```text
//! meltemi_wasm::module!(Courier);
//! ```
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod abi;
#[cfg(test)]
mod fake_host;
mod host;
mod istio;
mod ledger;
mod logger;
mod report;
mod root;
mod stream;
#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use meltemi_codecs::{Codec, Codecs};

#[cfg(doc)]
use meltemi_proxy::Worker;

/// Makes the module of a `cdylib` crate: `module!(Dubbo, Courier)` serves plans that name these protocols, `module!()`
/// those of every protocol of this workspace. Each codec is an expression of a type that implements
/// [`Codec`](meltemi_codecs::Codec).
#[macro_export]
macro_rules! module {
    () => { $crate::module!(@ $crate::Codecs::all()); };
    ($($codec:expr),+ $(,)?) => {
        $crate::module!(@ $crate::Codecs::new([$(::std::rc::Rc::new($codec) as ::std::rc::Rc<dyn $crate::Codec>),+]));
    };
    (@ $codecs:expr) => {
        #[allow(missing_docs, unsafe_code)]
        const _: () = {
            #[cfg(target_os = "wasi")]
            unsafe extern "C" {
                fn __wasm_call_ctors();
            }

            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                // SAFETY: the host calls this once, before anything else.
                #[cfg(target_os = "wasi")]
                unsafe {
                    __wasm_call_ctors();
                }
                $crate::start($codecs);
            }
        };
    };
}

/// What [`module!`] runs when Envoy loads the module.
#[doc(hidden)]
pub fn start(codecs: Codecs) {
    abi::start(codecs);
}
