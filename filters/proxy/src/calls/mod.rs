//! Calls: what a request is on its way, and the tries that are made for it.

mod call;
mod tries;

pub(crate) use self::call::{Call, CallId, Cause, Stage, pause};
pub(crate) use self::tries::{Tries, Try};
