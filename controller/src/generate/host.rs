//! Host names as people write them.

use std::collections::HashMap;

/// A host in full: a name without a dot is a service of the namespace, as Istio has it.
pub(super) fn in_full(host: &str, namespace: &str, domain: &str) -> String {
    match host.contains(['.', '*']) {
        true => host.to_owned(),
        false => format!("{host}.{namespace}.svc.{domain}"),
    }
}

/// Whether a text is the name of a host, perhaps with `*` for its first label. What is none would be in the plans and patches of all
/// who see it, and proxies refuse those whole.
pub(super) fn is_name(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether a host in full is what a pattern means: the same name, `*.domain`, or `*`.
pub(super) fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// Whether a pattern means a host in full, or some host that another pattern means.
pub(super) fn overlaps(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix('*'), host.strip_prefix('*')) {
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
        (_, Some(_)) => matches(host, pattern),
        (_, None) => matches(pattern, host),
    }
}

/// Things by the hosts that they are for, which may be patterns.
#[derive(Debug, Clone)]
pub(super) struct ByHost<T> {
    exact: HashMap<String, Vec<T>>,
    patterns: Vec<(String, T)>,
}

impl<T> ByHost<T> {
    /// Things with the host of each, in full.
    pub(super) fn new(all: impl Iterator<Item = (String, T)>) -> Self {
        let mut by_host = Self { exact: HashMap::new(), patterns: Vec::new() };
        for (host, thing) in all {
            match host.starts_with('*') {
                true => by_host.patterns.push((host, thing)),
                false => by_host.exact.entry(host).or_default().push(thing),
            }
        }
        by_host
    }

    /// What is for a host: things of just this one first.
    pub(super) fn of(&self, host: &str) -> impl Iterator<Item = &T> {
        let patterns = self.patterns.iter().filter(move |(pattern, _)| matches(pattern, host));
        self.exact.get(host).into_iter().flatten().chain(patterns.map(|(_, thing)| thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_of_the_namespace() {
        assert_eq!(in_full("demo", "shop", "cluster.local"), "demo.shop.svc.cluster.local");
        assert_eq!(in_full("org.acme.greeter", "shop", "cluster.local"), "org.acme.greeter");
        assert_eq!(in_full("*", "shop", "cluster.local"), "*");
    }

    #[test]
    fn names_are_labels_between_dots() {
        for name in ["a", "a.b-c.d", "org.Acme_1.greeter", "*.acme", "10.0.0.1"] {
            assert!(is_name(name), "{name}");
        }
        let (long, wide) = (["a"; 130].join("."), "a".repeat(64));
        for other in
            ["", "*", "a.", ".a", "a..b", "a b", "a\nb", "%REQ(a)%", "a:1", "a|b", "ä", "a*", &long, &wide]
        {
            assert!(!is_name(other), "{other}");
        }
    }

    #[test]
    fn patterns_match_whole_names_or_ends() {
        assert!(matches("a.b", "a.b") && !matches("a.b", "x.a.b"));
        assert!(matches("*.b", "a.b") && !matches("*.b", ".b") && !matches("*.b", "ab"));
        assert!(matches("*", "a"));
        assert!(
            overlaps("*", "a")
                && overlaps("a.b", "*.b")
                && overlaps("*.b", "*.a.b")
                && overlaps("*.a.b", "*")
        );
        assert!(!overlaps("*.a", "*.b") && !overlaps("a.b", "*.c"));
    }
}
