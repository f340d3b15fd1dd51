//! What Istio's bootstrap makes labels of, in the names of metrics.

use meltemi_proxy::{Way, labels};

use crate::report::own;

/// What is known of this proxy's bootstrap.
pub(crate) struct Tags {
    /// What it looks for, with commas or zeros between.
    names: String,
    /// Its connection managers have loggers that make metrics of reports.
    has_loggers: bool,
}

impl Tags {
    /// That of this proxy, by the metadata of the node.
    pub(crate) fn own() -> Self {
        // The first is a list, which the host gives with zeros between its values.
        let mut names = own("PROXY_CONFIG\0extraStatTags").unwrap_or_default();
        names.push(',');
        names.push_str(&own("ANNOTATIONS\0sidecar.istio.io/extraStatTags").unwrap_or_default());
        Self { names, has_loggers: own("ISTIO_VERSION").is_none_or(|version| has_loggers(&version)) }
    }

    /// Whether it looks for a label of that name.
    #[inline(never)]
    fn has(&self, name: &str) -> bool {
        self.names.split([',', '\0']).any(|known| known == name)
    }

    /// How counts become metrics.
    pub(crate) fn way(&self) -> Way {
        match self.has_loggers {
            true => Way::Streams,
            false if self.missing().is_none() => Way::Names,
            false => Way::Nowhere,
        }
    }

    /// A label that it does not look for.
    #[inline(never)]
    pub(crate) fn missing(&self) -> Option<String> {
        labels().into_iter().find(|label| !self.has(label))
    }

    /// Labels of other metrics that Envoy would find at the end of ours.
    /// The short ones come first, so that they are not found in others of these.
    pub(crate) fn shadows(&self) -> Vec<&str> {
        let labels = labels();
        let ends_one = |name: &str| {
            labels.iter().any(|label| label.strip_suffix(name).is_some_and(|rest| rest.ends_with('_')))
        };
        let mut shadows: Vec<&str> = Vec::new();
        for name in self.names.split([',', '\0']) {
            if ends_one(name) && !shadows.contains(&name) {
                shadows.insert(shadows.partition_point(|known| known.len() <= name.len()), name);
            }
        }
        shadows
    }
}

/// Whether the proxies of that version of Istio have such loggers: those of 1.30 and later.
fn has_loggers(version: &str) -> bool {
    let minor = version.strip_prefix("1.").unwrap_or_default();
    let end = minor.bytes().position(|letter| !letter.is_ascii_digit()).unwrap_or(minor.len());
    minor.get(..end).and_then(|minor| minor.parse::<u32>().ok()).is_none_or(|minor| minor >= 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_proxies_count_by_names_where_labels_are_named() {
        let all = labels();
        let tags = |names: String, has_loggers| Tags { names, has_loggers };
        // As the host gives a list: numbers of bytes before it, each value with a zero.
        let list = format!("\u{2}\0\0\0\u{8}\0\0\0\0\0\0\0{}\0\0", all.join("\0\0"));
        assert_eq!(tags(list.clone(), true).way(), Way::Streams);
        assert_eq!(tags(list, false).way(), Way::Names);
        let half = [&all[..9].join("\0\0"), ",", &all[9..].join(",")].concat();
        assert_eq!(tags(half, false).way(), Way::Names, "some are in an annotation");
        let without = tags(all[1..].join(","), false);
        assert_eq!((without.way(), without.missing()), (Way::Nowhere, Some(all[0].clone())));
        assert_eq!(tags(",".to_owned(), false).way(), Way::Nowhere);
    }

    #[test]
    fn labels_of_other_metrics_are_not_found_in_ours() {
        let shadows = |names: &str| {
            let tags = Tags { names: names.to_owned(), has_loggers: false };
            tags.shadows().join(" ")
        };
        assert_eq!(shadows("service,method,le,destination_workload"), "service");
        let names = "cluster\0\0canonical_service\0\0app,service,,app,pp,s";
        assert_eq!(shadows(names), "app cluster service canonical_service");
        assert_eq!(shadows(&labels().join(",")), "", "none of Istio's ends as another");
    }

    #[test]
    fn loggers_came_with_istio_1_30() {
        for (version, has) in [
            ("1.28.0", false),
            ("1.29-alpha.0", false),
            ("1.9", false),
            ("1.30.0", true),
            ("1.30-dev", true),
            ("1.100", true),
            ("2.1", true),
            ("", true),
            ("unknown", true),
            ("1.x", true),
        ] {
            assert_eq!(has_loggers(version), has, "{version}");
        }
    }
}
