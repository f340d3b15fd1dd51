//! The Wasm module that Envoy loads: every protocol of this workspace.

#[cfg(target_arch = "wasm32")]
meltemi_wasm::module!();
