//! Shares of calls, by chance.
use super::error::{Path, Result, fail};

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

pub(super) fn share(path: &Path<'_>, percent: f64) -> Result<Share> {
    if !(0.0..=100.0).contains(&percent) {
        let mut buffer = ryu::Buffer::new();
        let percent = buffer.format(percent);
        let percent = percent.strip_suffix(".0").unwrap_or(percent);
        return fail(path, format!("{percent} is out of bounds; write 0 to 100"));
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
