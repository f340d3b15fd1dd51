//! Failures that a route makes on purpose.
use core::time::Duration;
use std::rc::Rc;

use super::{
    check::message,
    error::{Path, Result, fail},
    raw,
    share::{Share, share},
};

/// What happens to some of a route's calls in place of, or before, going anywhere.
#[derive(Debug)]
pub struct Fault {
    /// Calls that are held back.
    pub delay: Option<(Share, Duration)>,
    /// Calls that are answered with this text.
    pub abort: Option<(Share, Rc<str>)>,
}

pub(super) fn fault(path: &Path<'_>, raw: &raw::Fault, route: &str) -> Result<Fault> {
    if raw.delay.is_none() && raw.abort.is_none() {
        return fail(path, "does nothing; write \"delay\" or \"abort\", or leave it out");
    }
    let delay = raw.delay.as_ref().map(|raw| delay(&path.key("delay"), raw));
    let abort = raw.abort.as_ref().map(|raw| abort(&path.key("abort"), raw, route));
    Ok(Fault { delay: delay.transpose()?, abort: abort.transpose()? })
}

fn delay(path: &Path<'_>, raw: &raw::Delay) -> Result<(Share, Duration)> {
    match raw.duration.limit() {
        Some(duration) => Ok((share(&path.key("percent"), raw.percent)?, duration)),
        None => fail(&path.key("duration"), "holds no call back; write at least \"1ms\""),
    }
}

fn abort(path: &Path<'_>, raw: &raw::Abort, route: &str) -> Result<(Share, Rc<str>)> {
    let default = || format!("aborted by a fault of route {route:?}");
    let text = message(&path.key("message"), raw.message.as_deref(), default)?;
    Ok((share(&path.key("percent"), raw.percent)?, text))
}
