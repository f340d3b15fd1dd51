//! The custom resources that people write: Meltemi's own, and those of Aeraki as they are.

pub mod aeraki;
mod application_protocol;
mod authorization_policy;
mod duration;
mod meta_router;
mod schema;
mod tap;

pub use application_protocol::*;
pub use authorization_policy::*;
pub(crate) use duration::parse_duration;
pub use meta_router::*;
pub(crate) use schema::CONDITIONS;
pub(crate) use tap::LONGEST_TAP;
pub use tap::{Tap, TapSelector, TapSpec};
