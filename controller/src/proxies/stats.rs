//! The module's metrics, as Envoy's `/stats` has them: with labels in the names, whatever tags the proxy cuts out of them.

use super::reach::Question;

/// What asks for them. Of a mesh's sidecar, whose own are thousands, these are few.
pub(crate) const QUESTION: Question =
    Question { path: "/stats?filter=%5Ewasmcustom%5C.meltemi%5C.", most: 8 << 20 };

/// What the names of all begin with.
const START: &str = "wasmcustom.meltemi.";

/// A metric and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample<'a> {
    /// All of its name, which no other has.
    pub(crate) name: &'a str,
    /// What it counts, such as `requests_total`.
    pub(crate) metric: &'a str,
    labels: &'a str,
    /// Its value.
    pub(crate) value: u64,
}

impl<'a> Sample<'a> {
    /// The value of a label; empty if it has none of that name.
    pub(crate) fn label(&self, name: &str) -> &'a str {
        let mut labels = self.labels.split(";.;").filter_map(|label| label.split_once("=.="));
        labels.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }
}

/// The metrics in an answer.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(": ")?;
        let rest = name.strip_prefix(START)?;
        let (labels, metric) = rest.rsplit_once(";.;").unwrap_or(("", rest));
        Some(Sample { name, metric, labels, value: value.parse().ok()? })
    })
}

/// The value of a label as the module writes it: what could end it early, or is no part of a name, is `_`.
pub(crate) fn label_value(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "._-$/:+".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_with_their_labels() {
        let text = "wasmcustom.meltemi.service=.=org.x.Greeter;.;method=.=say;.;requests_total: 7\n\
            wasmcustom.meltemi.heartbeats_total: 2\n\
            wasmcustom.other.requests_total: 3\n\
            wasmcustom.meltemi.h: No recorded values\n";
        let all: Vec<_> = samples(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].metric, all[0].value), ("requests_total", 7));
        assert_eq!((all[0].label("service"), all[0].label("method")), ("org.x.Greeter", "say"));
        assert_eq!((all[1].metric, all[1].label("service"), all[1].value), ("heartbeats_total", "", 2));
    }

    #[test]
    fn values_are_written_as_the_module_does() {
        assert_eq!(
            label_value("extensions.istio.io/x/ns.meltemi~istio"),
            "extensions.istio.io/x/ns.meltemi_istio"
        );
    }
}
