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

#[cfg(test)]
mod fake_host;
mod host;
mod ledger;
mod report;
mod root;
mod stream;
#[cfg(test)]
mod tests;

use core::cell::OnceCell;

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

#[doc(hidden)]
pub use meltemi_codecs::{Codec, Codecs};
#[doc(hidden)]
pub use proxy_wasm;

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
            $crate::proxy_wasm::main! {{
                $crate::start(|_| $crate::root(|| $codecs));
            }}
        };
    };
}

/// What [`module!`] runs when Envoy loads the module.
#[doc(hidden)]
pub fn start(new_root: fn(u32) -> Box<dyn RootContext>) {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(new_root);
}

/// A root context that serves plans of these protocols, which are one for all of a VM: connections outlive root contexts.
#[doc(hidden)]
pub fn root(codecs: fn() -> Codecs) -> Box<dyn RootContext> {
    thread_local! {
        static CODECS: OnceCell<Codecs> = const { OnceCell::new() };
    }
    let codecs = CODECS.with(|known| known.get_or_init(codecs).clone());
    Box::new(root::Root::new(codecs))
}
