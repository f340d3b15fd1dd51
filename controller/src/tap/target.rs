//! Which pods are tapped.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, ListParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::api::TapSelector;
use crate::proxies::{CONTAINER, has_proxy, in_time};
use crate::words;

/// So many pods are followed at most: each takes a stream through the API server.
pub(super) const MOST_PODS: usize = 64;

/// What selects pods: all that it says must be so.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Selection {
    pub(super) pods: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A kind whose objects select pods.
struct Workload {
    names: &'static [&'static str],
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// Where its labels are.
    labels: &'static str,
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        names: &["deploy", "deployment", "deployments"],
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        labels: "/spec/selector/matchLabels",
    },
    Workload {
        names: &["sts", "statefulset", "statefulsets"],
        group: "apps",
        kind: "StatefulSet",
        plural: "statefulsets",
        labels: "/spec/selector/matchLabels",
    },
    Workload {
        names: &["ds", "daemonset", "daemonsets"],
        group: "apps",
        kind: "DaemonSet",
        plural: "daemonsets",
        labels: "/spec/selector/matchLabels",
    },
    Workload {
        names: &["svc", "service", "services"],
        group: "",
        kind: "Service",
        plural: "services",
        labels: "/spec/selector",
    },
];

impl Selection {
    /// What the arguments select: pods by name, or one workload or service as `KIND/NAME`; and labels.
    pub(super) async fn of(
        targets: &[String],
        labels: Option<&str>,
        (client, namespace): (&Client, &str),
    ) -> Result<Self, String> {
        let mut selection =
            Self { pods: Vec::new(), labels: labels.map(pairs).transpose()?.unwrap_or_default() };
        for target in targets {
            match target.split_once('/') {
                None => selection.pods.push(target.clone()),
                Some(("po" | "pod" | "pods", pod)) => selection.pods.push(pod.to_owned()),
                Some(_) if targets.len() > 1 => {
                    return Err(format!("{target}: name one workload, or pods alone; -l selects by labels"));
                }
                Some((kind, name)) => {
                    let labels = labels_of(kind, name, (client, namespace)).await?;
                    selection.labels = both(selection.labels, labels)?;
                }
            }
        }
        Ok(selection)
    }

    /// What a Tap has of the labels.
    pub(super) fn selector(&self) -> Option<TapSelector> {
        (!self.labels.is_empty()).then(|| TapSelector { match_labels: self.labels.clone() })
    }

    /// The names of the pods that have a proxy that runs.
    pub(super) async fn running(&self, pods: &Api<Pod>) -> Result<Vec<String>, String> {
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let params = ListParams::default().labels(&labels.join(","));
        let list = in_time(pods.list(&params)).await;
        let list = list.map_err(|error| format!("cannot list pods: {}", words::cluster(&error)))?;
        let is_meant = |pod: &&Pod| self.pods.is_empty() || self.pods.contains(&pod.name_any());
        Ok(list.iter().filter(is_meant).filter(|pod| has_proxy(pod)).map(ResourceExt::name_any).collect())
    }

    /// Those of the pods that are named that are not among the running.
    pub(super) fn absent(&self, running: &[String]) -> Vec<&str> {
        self.pods.iter().filter(|pod| !running.contains(pod)).map(String::as_str).collect()
    }

    /// Why it selects none, or none of a name.
    pub(super) fn nobody(&self, namespace: &str, running: &[String]) -> String {
        let what = match (&*self.pods, self.labels.is_empty()) {
            ([], true) => String::new(),
            ([], false) => " with these labels".to_owned(),
            (_, true) => format!(" of {}", self.absent(running).join(", ")),
            (_, false) => format!(" of {} with these labels", self.absent(running).join(", ")),
        };
        format!(
            "no pod{what} that runs in namespace {namespace} has a container {CONTAINER}: is it in the mesh?"
        )
    }
}

/// The labels that are asked for, and those of a workload.
fn both(
    mut asked: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    for (name, value) in &labels {
        if let Some(other) = asked.get(name).filter(|other| *other != value) {
            return Err(format!(
                "--selector {name}={other}: the workload selects pods with {name}={value}; name another, or leave out one of both"
            ));
        }
    }
    asked.extend(labels);
    Ok(asked)
}

/// The labels of a workload's pods, or of a service's.
async fn labels_of(
    kind: &str,
    name: &str,
    (client, namespace): (&Client, &str),
) -> Result<BTreeMap<String, String>, String> {
    let known = WORKLOADS.iter().find(|workload| workload.names.contains(&kind));
    let Some(Workload { group, kind, plural, labels, .. }) = known else {
        return Err(format!(
            "{kind}/{name}: write deployment, statefulset, daemonset, service or pod before the /"
        ));
    };
    let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    let resource = ApiResource {
        group: (*group).to_owned(),
        version: "v1".to_owned(),
        api_version,
        kind: (*kind).to_owned(),
        plural: (*plural).to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = api.get(name).await;
    let object = object.map_err(|error| format!("{kind} {namespace}/{name}: {}", words::cluster(&error)))?;
    let is_plain = object.data.pointer("/spec/selector/matchExpressions").is_none();
    let found = object.data.pointer(labels).and_then(Value::as_object).filter(|_| is_plain);
    let found = found.filter(|labels| !labels.is_empty()).ok_or_else(|| {
        format!("{kind} {namespace}/{name} selects its pods by no labels, or not by these alone: select them by -l")
    })?;
    Ok(found.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect())
}

/// Labels as for kubectl, as far as they are equal to something.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        let is_one = !name.is_empty() && !name.ends_with('!') && !value.contains('=');
        is_one.then(|| (name.trim().to_owned(), value.trim().to_owned()))
    };
    let of = |text: &str| {
        pair(text)
            .ok_or_else(|| format!("--selector {text:?}: write NAME=VALUE, with commas between several"))
    };
    text.split(',').map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_kubectl_that_are_equal() {
        let told = pairs("app=cart,tier==web").unwrap();
        assert_eq!(
            told.into_iter().collect::<Vec<_>>(),
            [("app", "cart"), ("tier", "web")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        for wrong in ["", "app", "app!=cart", "app in (a)", "=x", "a=b,,c=d"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_pod_that_is_named_has_to_be_there() {
        let selection = Selection { pods: vec!["a".to_owned(), "typo".to_owned()], ..Selection::default() };
        let running = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(selection.absent(&running(&["a", "typo"])), Vec::<&str>::new());
        assert_eq!(selection.absent(&running(&["a"])), ["typo"]);
        let said = selection.nobody("shop", &running(&["a"]));
        assert!(said.starts_with("no pod of typo that runs in namespace shop "), "{said}");
    }

    #[test]
    fn labels_of_a_workload_that_are_others_than_asked_for_are_refused() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let asked = of(&[("app", "cart"), ("version", "v2")]);
        assert_eq!(both(asked.clone(), of(&[("app", "cart")])), Ok(asked.clone()));
        let said = both(asked, of(&[("app", "cart"), ("version", "v1")])).unwrap_err();
        assert!(said.starts_with("--selector version=v2: "), "{said}");
    }
}
