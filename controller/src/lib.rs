//! The `meltemi` command as a library.
//!
//! The command itself is a thin front: what it does is in these modules, so that the end-to-end tests start Envoy
//! the way the demo does.

pub mod api;
pub mod capture;
pub mod check;
pub mod checkout;
pub mod cli;
pub mod command;
pub mod crds;
pub mod dashboard;
pub mod decode;
pub mod demo;
pub mod envoy;
pub mod findings;
pub mod generate;
pub mod input;
pub mod install;
pub mod istio;
pub mod kinds;
pub mod learn;
pub mod mesh;
pub mod module;
pub mod place;
mod plain;
pub mod proxies;
pub mod push;
pub mod run;
pub mod sample;
pub mod screen;
pub mod tap;
pub mod top;
mod traffic;
pub mod validate;
mod words;
pub mod world;
