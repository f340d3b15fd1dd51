//! Envoys that run the module, on this machine or in a cluster: which there are, and what they tell by their admin
//! interfaces. `meltemi proxy-status`, `proxy-config`, `top` and
//! `dashboard` are made of it.

mod config;
mod dump;
mod endpoints;
mod reach;
mod resources;
pub(crate) mod stats;
mod status;
mod tags;
mod wanted;
mod which;

pub use config::ProxyConfig;
pub(crate) use config::plans;
pub(crate) use endpoints::{Endpoint, endpoints};
pub(crate) use resources::{Resource, resources};
pub use status::ProxyStatus;
pub(crate) use status::{Form, Row as Standing, all as standings};
pub(crate) use which::{CONTAINER, PARALLEL, Proxy, Which, ask_all, has_proxy, in_time};

use std::future::Future;

/// Does what needs a runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    // Several libraries have TLS: all of them use the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let outcome = runtime.block_on(work);
    // A connection that does not answer is not waited for.
    runtime.shutdown_background();
    outcome
}
