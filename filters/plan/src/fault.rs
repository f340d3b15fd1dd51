//! Failures that a route makes on purpose.
use core::time::Duration;
use std::rc::Rc;

use super::{
    actions::message,
    compile::{Result, fail},
    error::Path,
    raw,
};

/// What happens to some of a route's calls in place of, or before, going anywhere.
#[derive(Debug)]
pub struct Fault {
    /// Calls that are held back.
    pub delay: Option<(Share, Duration)>,
    /// Calls that are answered with this text.
    pub abort: Option<(Share, Rc<str>)>,
}

/// A share of all calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u64);

/// All calls.
const ALL: u64 = 1 << 32;

impl Share {
    /// Whether a call belongs to it. `random` is uniform over all its values.
    #[inline]
    pub fn has(self, random: u32) -> bool {
        u64::from(random) < self.0
    }
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
        Some(duration) => Ok((share(path, raw.percent)?, duration)),
        None => fail(&path.key("duration"), "holds no call back; write at least \"1ms\""),
    }
}

fn abort(path: &Path<'_>, raw: &raw::Abort, route: &str) -> Result<(Share, Rc<str>)> {
    let default = || format!("aborted by a fault of route {route:?}");
    let text = message(&path.key("message"), raw.message.as_deref(), default)?;
    Ok((share(path, raw.percent)?, text))
}

fn share(path: &Path<'_>, percent: f64) -> Result<Share> {
    if !(0.0..=100.0).contains(&percent) {
        return fail(&path.key("percent"), format!("{percent} is out of bounds; write 0 to 100"));
    }
    // At most ALL: the cast saturates, and is exact for whole percents.
    Ok(Share((percent / 100.0 * ALL as f64).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_at_both_ends() {
        let share = |percent| share(&Path::Root, percent).unwrap();
        assert!(share(100.0).has(u32::MAX) && !share(0.0).has(0));
        assert!(share(50.0).has((1 << 31) - 1) && !share(50.0).has(1 << 31));
        assert!(share(0.0001).has(4294) && !share(0.0001).has(4295));
    }
}
