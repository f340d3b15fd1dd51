//! What proxies count, from one look at them to the next. `meltemi top` and `meltemi dashboard` show it.

mod figures;
mod look;
mod meter;
mod watch;

pub(crate) use figures::Figures;
pub(crate) use look::Look;
pub(crate) use meter::{Meters, Seen, State};
pub(crate) use watch::watch;
