//! Calls: what a request is on its way, the tries that are made for it, and what is to be said of it.
//!
//! [`Calls`] has all of them, and keeps what their clients and pools know of them in step.

mod buffers;
mod call;
mod record;
mod stage;
mod stream;
mod table;
mod tries;

pub(crate) use self::call::{Call, CallId, Origin};
pub(crate) use self::record::{End, Record, bytes};
pub(crate) use self::stage::{Cause, Stage};
pub(crate) use self::stream::Stream;
pub(crate) use self::table::{Calls, ClientCalls, PoolCalls};
pub(crate) use self::tries::{Tries, Try, TryEnd, TryFailure, pause};
