//! Calls: what a request is on its way, the tries that are made for it, and what is to be said of it.

mod call;
mod record;
mod tries;

pub(crate) use self::call::{Call, CallId, Cause, Origin, Stage, pause};
pub(crate) use self::record::{End, Record};
pub(crate) use self::tries::{Tries, Try};
