use serde_json::Value;

use crate::findings::{Finding, Severity};
use crate::kinds::{self, Owner};
use crate::words::{instead, nearest};

/// What is wrong with an object whose group is one of Meltemi's or Aeraki's and whose kind or version is not, or whose kind
/// is one that is read but for its case: it would be passed over in silence, as objects of all other groups are.
pub fn stranger(object: &Value) -> Option<Finding> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let group = version.split_once('/').map_or(version, |(group, _)| group);
    let is_ours = ["meltemi.io", "aeraki.io"].into_iter().any(|domain| {
        group.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    });
    let of_group: Vec<_> = kinds::ours().filter(|known| known.group == group).collect();
    let said = |path: &str, message: String| {
        Some(Finding { severity: Severity::Error, path: path.to_owned(), message })
    };
    let mut others = kinds::read().iter().filter(|known| known.owner != Owner::Ours);
    if let Some(meant) =
        others.find(|known| known.group == group_of(version) && differs_by_case(&known.kind, kind))
    {
        return said("kind", format!("{version} has no kind {kind:?}; did you mean {}?", meant.kind));
    }
    if !is_ours || of_group.iter().any(|known| known.kind == kind && known.api_version() == version) {
        return None;
    }
    if let Some(known) = of_group.iter().find(|known| known.kind == kind) {
        return said(
            "apiVersion",
            format!("{kind} has no version {version:?}; write {}", known.api_version()),
        );
    }
    let elsewhere = kinds::ours().find(|known| nearest(kind, [&*known.kind].into_iter()).is_some());
    match (&*of_group, elsewhere) {
        ([], Some(meant)) => said(
            "apiVersion",
            format!(
                "no group of this name has kinds; did you mean {} in {}?",
                meant.kind,
                meant.api_version()
            ),
        ),
        ([], None) => {
            let mut groups: Vec<&str> = kinds::ours().map(|known| &*known.group).collect();
            groups.dedup();
            said("apiVersion", format!("no group of this name has kinds; {}", instead(group, &groups)))
        }
        _ => {
            let kinds: Vec<&str> = of_group.iter().map(|known| &*known.kind).collect();
            said("kind", format!("{group} has no kind {kind:?}; {}", instead(kind, &kinds)))
        }
    }
}

fn group_of(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

fn differs_by_case(known: &str, kind: &str) -> bool {
    known != kind && known.eq_ignore_ascii_case(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: &str, kind: &str) -> Option<String> {
        let found = stranger(&serde_json::json!({"apiVersion": version, "kind": kind}))?;
        Some(format!("{}: {}", found.path, found.message))
    }

    #[test]
    fn kinds_and_versions_that_are_none_are_told_with_what_is_meant() {
        for (version, kind, says) in [
            (
                "meltemi.io/v1alpha1",
                "Metarouter",
                "kind: meltemi.io has no kind \"Metarouter\"; did you mean MetaRouter?",
            ),
            (
                "meltemi.io/v1alpha1",
                "MetaRoutr",
                "kind: meltemi.io has no kind \"MetaRoutr\"; did you mean MetaRouter?",
            ),
            (
                "redis.aeraki.io/v1alpha1",
                "Gadget",
                "kind: redis.aeraki.io has no kind \"Gadget\"; write RedisService or RedisDestination",
            ),
            (
                "metaprotocol.aeraki.io/v2",
                "MetaRouter",
                "apiVersion: MetaRouter has no version \"metaprotocol.aeraki.io/v2\"; write metaprotocol.aeraki.io/v1alpha1",
            ),
            (
                "aeraki.io/v1",
                "RedisService",
                "apiVersion: no group of this name has kinds; did you mean RedisService in redis.aeraki.io/v1alpha1?",
            ),
        ] {
            assert_eq!(told(version, kind).as_deref(), Some(says));
        }
        let told_by_case = told("networking.istio.io/v1", "Virtualservice");
        let says =
            "kind: networking.istio.io/v1 has no kind \"Virtualservice\"; did you mean VirtualService?";
        assert_eq!(told_by_case.as_deref(), Some(says));
        assert!(told("v1", "service").is_some() && told("example.org/v1", "service").is_none());
        for (version, kind) in [
            ("meltemi.io/v1alpha1", "MetaRouter"),
            ("dubbo.aeraki.io/v1alpha1", "DubboAuthorizationPolicy"),
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("notmeltemi.io/v1", "Metarouter"),
        ] {
            assert_eq!(told(version, kind), None);
        }
    }
}
