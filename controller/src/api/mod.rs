//! The custom resources that people write: Meltemi's own, and those of Aeraki as they are.

pub mod aeraki;
mod meta_router;
mod schema;

pub use meta_router::*;
