//! The `meltemi` command as a library.
//!
//! The command itself is a thin front: what it does stands in these modules, so that the end-to-end tests start Envoy
//! the way the demo does.

pub mod checkout;
pub mod envoy;
