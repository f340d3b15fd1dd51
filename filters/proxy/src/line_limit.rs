use core::time::Duration;

use crate::clock::Instant;

/// Admits so many log lines a second for each reason, and says with the next one how many it did not: a client that is
/// refused a hundred thousand times a second must not fill a disk.
#[derive(Debug, Default)]
pub(crate) struct LineLimit {
    reasons: Vec<Reason>,
}

#[derive(Debug)]
struct Reason {
    name: &'static str,
    lines: Lines,
}

/// Lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// When the span began that `admitted` were admitted in.
    since: Instant,
    admitted: u32,
    suppressed: u64,
}

/// Lines about something that goes on: one a minute.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    told_at: Option<Instant>,
    untold: u64,
}

pub(crate) const SPAN: Duration = Duration::from_secs(1);

/// How often there is a line of what goes on.
const MINUTE: Duration = Duration::from_secs(60);

/// Lines of one reason in a [`SPAN`].
const MOST_LINES: u32 = 10;

impl LineLimit {
    /// Whether a line may be written; with the number of those that were not since the last one.
    pub(crate) fn admit(&mut self, name: &'static str, now: Instant) -> Option<u64> {
        let known = self.reasons.iter().position(|reason| reason.name == name);
        let index = known.unwrap_or_else(|| {
            self.reasons.push(Reason { name, lines: Lines::default() });
            self.reasons.len().saturating_sub(1)
        });
        self.reasons.get_mut(index)?.lines.admit(MOST_LINES, now)
    }
}

impl Lines {
    /// Whether no more of `most` lines may be written in this [`SPAN`].
    pub(crate) fn is_full(&self, most: u32, now: Instant) -> bool {
        self.admitted >= most && now.since(self.since) < SPAN
    }

    /// Takes the number of lines that were not written since the last one.
    pub(crate) fn take_suppressed(&mut self) -> u64 {
        core::mem::take(&mut self.suppressed)
    }

    /// Whether a line may be written, of which `most` may be in a [`SPAN`]; with the number of those that were not since the
    /// last one.
    pub(crate) fn admit(&mut self, most: u32, now: Instant) -> Option<u64> {
        if now.since(self.since) >= SPAN {
            self.since = now;
            self.admitted = 0;
        }
        if self.admitted >= most {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.admitted = self.admitted.saturating_add(1);
        Some(core::mem::take(&mut self.suppressed))
    }
}

impl Rare {
    /// Whether a line may be written; with the number of those that were not since the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.told_at.is_some_and(|told_at| told_at.after(MINUTE) > now) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told_at = Some(now);
        Some(core::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_lines_and_the_next_tells_of_the_others() {
        let at = |millis| Instant::default().after(Duration::from_millis(millis));
        let mut limit = LineLimit::default();
        let admitted: Vec<_> = (0..100).filter_map(|n| limit.admit("timeout", at(5000 + n))).collect();
        assert_eq!(admitted, [0; 10]);
        assert_eq!(limit.admit("denied", at(5100)), Some(0), "another reason has lines of its own");
        assert_eq!(limit.admit("timeout", at(5999)), None);
        assert_eq!(limit.admit("timeout", at(6000)), Some(91));
        assert_eq!(limit.admit("timeout", at(6000)), Some(0));
    }
}
