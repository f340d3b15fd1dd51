use super::steps;

/// A map from prefixes that finds all those of a text at once, in time that hardly grows with their number.
#[derive(Debug)]
pub(super) struct Prefixes<V> {
    /// Sorted by prefix.
    entries: Box<[Entry<V>]>,
}

#[derive(Debug)]
struct Entry<V> {
    prefix: Box<str>,
    value: V,
    /// The longest other entry that is a prefix of this one.
    parent: Option<usize>,
    /// How many others are.
    depth: usize,
    /// One of these further up, such that any of them is a few steps away.
    jump: Option<usize>,
}

impl<V> Prefixes<V> {
    /// The prefixes must differ.
    pub(super) fn new(entries: Vec<(Box<str>, V)>) -> Self {
        let entries = entries.into_iter().map(|(prefix, value)| Entry {
            prefix,
            value,
            parent: None,
            depth: 0,
            jump: None,
        });
        let mut entries: Box<[Entry<V>]> = entries.collect();
        entries.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix));
        for number in 1..entries.len() {
            let (before, after) = entries.split_at_mut(number);
            let Some(entry) = after.first_mut() else { continue };
            // In sorted order whatever is a prefix of this entry is the entry before it or a prefix of that.
            let mut candidate = number.checked_sub(1);
            while let Some(other) = candidate.and_then(|number| before.get(number)) {
                if entry.prefix.starts_with(&*other.prefix) {
                    break;
                }
                candidate = other.parent;
            }
            entry.parent = candidate;
            let Some(parent) = candidate.and_then(|number| before.get(number)) else { continue };
            entry.depth = parent.depth.saturating_add(1);
            // Over two jumps of the same length where there are, to the parent otherwise: so all are near.
            let depth = |number: Option<usize>| Some(before.get(number?)?.depth);
            let next = parent.jump.and_then(|number| before.get(number)).and_then(|entry| entry.jump);
            let spans = [Some(parent.depth), depth(parent.jump), depth(next)];
            entry.jump = match spans {
                [Some(from), Some(middle), Some(to)]
                    if from.saturating_sub(middle) == middle.saturating_sub(to) =>
                {
                    next
                }
                _ => candidate,
            };
        }
        Self { entries }
    }

    /// The values of all prefixes of `text`, the longest first.
    pub(super) fn of(&self, text: &str) -> impl Iterator<Item = &V> {
        // Every prefix of the text is the last entry that sorts no higher than the text, or a prefix of that entry.
        let (number, common) = self.floor(text.as_bytes());
        let mut number = self.within(number, common);
        core::iter::from_fn(move || {
            let entry = self.entries.get(number?)?;
            number = entry.parent;
            Some(&entry.value)
        })
    }

    /// The entry of that number if it has at most `length` bytes, or else the longest of its prefixes that does.
    fn within(&self, number: Option<usize>, length: usize) -> Option<usize> {
        let is_over = |entry: &Entry<V>| entry.prefix.len() > length;
        let mut number = number?;
        loop {
            steps::take();
            let entry = self.entries.get(number)?;
            if !is_over(entry) {
                return Some(number);
            }
            let is_far = |jump: &usize| self.entries.get(*jump).is_some_and(is_over);
            number = entry.jump.filter(is_far).or(entry.parent)?;
        }
    }

    /// The last entry that sorts no higher than `text`, and how many bytes the two have in common.
    fn floor(&self, text: &[u8]) -> (Option<usize>, usize) {
        let (mut low, mut high) = (0, self.entries.len());
        // What the text has in common with the entry below the interval and with the one above it, and so with all
        // between: names share long beginnings, and comparing those again at each step would be most of the work.
        let (mut below, mut above) = (0, 0);
        while low < high {
            let middle = low.midpoint(high);
            let Some(entry) = self.entries.get(middle) else { break };
            let prefix = entry.prefix.as_bytes();
            let mut common = usize::min(below, above);
            let start = common;
            while prefix.get(common).is_some_and(|byte| text.get(common) == Some(byte)) {
                common = common.saturating_add(1);
            }
            steps::compare(common.saturating_sub(start).saturating_add(1));
            if prefix.get(common) <= text.get(common) {
                low = middle.saturating_add(1);
                below = common;
            } else {
                high = middle;
                above = common;
            }
        }
        (low.checked_sub(1), below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(prefixes: &[&str], text: &str) -> Vec<String> {
        let prefixes = Prefixes::new(prefixes.iter().map(|p| (Box::from(*p), (*p).to_owned())).collect());
        prefixes.of(text).cloned().collect()
    }

    /// However many prefixes of a prefix there are, those that are none of the text are passed over in a few steps.
    #[test]
    fn prefixes_of_prefixes_are_passed_over() {
        let prefixes: Vec<_> = (1..=4000).map(|length| "a".repeat(length)).collect();
        let prefixes = Prefixes::new(prefixes.iter().map(|p| (Box::from(p.as_str()), p.len())).collect());
        for length in [0, 1, 2, 3, 100, 2047, 2048, 3999] {
            let text = format!("{}b", "a".repeat(length));
            let (first, steps) = steps::count(|| prefixes.of(&text).next().copied());
            assert_eq!(first, (length > 0).then_some(length));
            assert!(steps.taken < 50, "{length}: {steps:?}");
        }
    }

    #[test]
    fn all_prefixes_are_found_longest_first() {
        let set = ["", "a", "ab", "abc", "abd", "b", "ba", "org.a.", "org.a.B", "org.ab", "é", "éa"];
        for (text, expected) in [
            ("", vec![""]),
            ("a", vec!["a", ""]),
            ("abcd", vec!["abc", "ab", "a", ""]),
            ("abcé", vec!["abc", "ab", "a", ""]),
            ("abe", vec!["ab", "a", ""]),
            ("aa", vec!["a", ""]),
            ("bz", vec!["b", ""]),
            ("c", vec![""]),
            ("org.a.Bc", vec!["org.a.B", "org.a.", ""]),
            ("org.a.A", vec!["org.a.", ""]),
            ("org", vec![""]),
            ("éb", vec!["é", ""]),
            ("\u{10ffff}", vec![""]),
        ] {
            assert_eq!(all(&set, text), expected, "{text}");
        }
        assert!(all(&[], "a").is_empty());
        assert!(all(&["b"], "a").is_empty());
        assert!(all(&["b"], "c").is_empty());
    }
}
