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

use meltemi_codecs::Codec;
use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

#[doc(hidden)]
pub use proxy_wasm;

#[cfg(doc)]
use meltemi_proxy::Worker;

/// Makes the module of a `cdylib` crate: `module!(Dubbo, Courier)` serves plans that name these protocols. Each codec
/// is a constant expression of a type that implements [`Codec`](meltemi_codecs::Codec).
#[macro_export]
macro_rules! module {
    ($($codec:expr),+ $(,)?) => {
        #[allow(missing_docs, unsafe_code)]
        const _: () = {
            $crate::proxy_wasm::main! {{
                $crate::start(|_| $crate::root(const { &[$(&$codec),+] }));
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

/// A root context that serves plans of these protocols.
#[doc(hidden)]
pub fn root(codecs: &'static [&'static dyn Codec]) -> Box<dyn RootContext> {
    Box::new(root::Root::new(codecs))
}
