//! Which of several objects came first.

use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};

/// When an object was made. As with Istio, of two of the same second the first by name and namespace is the older.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age {
    /// It is in a file, and will be made.
    is_to_come: bool,
    created: Option<Timestamp>,
    name: String,
    namespace: String,
}

impl Age {
    pub(super) fn of<T: Resource>(object: &T) -> Self {
        let created = object.meta().creation_timestamp.as_ref().map(|time| time.0);
        Self {
            is_to_come: created.is_none(),
            created,
            name: object.name_any(),
            namespace: object.namespace().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn who_was_made_first_is_the_oldest() {
        let age = |name: &str, namespace: &str, created: Option<&str>| {
            let metadata = json!({"name": name, "namespace": namespace, "creationTimestamp": created});
            Age::of(&serde_json::from_value::<Pod>(json!({"metadata": metadata})).unwrap())
        };
        let by_age = [
            age("z", "z", Some("2021-01-01T00:00:00Z")),
            age("a", "z", Some("2022-01-01T00:00:00Z")),
            age("b", "a", Some("2022-01-01T00:00:00Z")),
            age("b", "b", Some("2022-01-01T00:00:00Z")),
            age("a", "a", None),
        ];
        assert!(by_age.is_sorted());
    }
}
