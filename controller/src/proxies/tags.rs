//! Why a sidecar counts none of Istio's metrics: its version, and the labels that its bootstrap looks for in names.

use serde_json::Value;

use super::reach::Question;
use super::which::Proxy;
use crate::generate::{HAS_LOGGERS, IstioVersion};

/// What asks for the metadata of the node, by which the module decides.
const QUESTION: Question = Question { path: "/server_info", most: 4 << 20 };

/// So many labels are told by name.
const FEW: usize = 5;

/// What keeps a proxy whose plan wants Istio's metrics from counting, and the mend.
///
/// # Errors
///
/// It does not answer, or not as an Envoy does.
pub(super) async fn ask(proxy: &Proxy) -> Result<Option<String>, String> {
    let text = proxy.get(QUESTION).await?;
    let info: Value =
        serde_json::from_str(&text).map_err(|error| format!("not the information of a server: {error}"))?;
    Ok(lack(&info["node"]["metadata"]))
}

/// Whether a plan wants Istio's metrics of a sidecar. One that says `byNames` is for an Envoy without Istio's bootstrap.
pub(super) fn are_wanted(plan: &Value) -> bool {
    let istio = &plan["metrics"]["istio"];
    istio.is_object() && istio["byNames"] != true
}

/// What is missing of a node with this metadata.
fn lack(metadata: &Value) -> Option<String> {
    let version: Option<IstioVersion> = metadata["ISTIO_VERSION"].as_str()?.parse().ok();
    let IstioVersion(minor) = version.filter(|version| *version < HAS_LOGGERS)?;
    let of_mesh = metadata["PROXY_CONFIG"]["extraStatTags"].as_array().into_iter().flatten();
    let of_pod = metadata["ANNOTATIONS"]["sidecar.istio.io/extraStatTags"].as_str().unwrap_or_default();
    let known: Vec<&str> = of_mesh.filter_map(Value::as_str).chain(of_pod.split(',')).collect();
    let mut labels = meltemi_proxy::labels();
    labels.retain(|label| !known.contains(&&**label));
    let missing = match labels.len() {
        0 => return None,
        1..=FEW => labels.join(", "),
        many => format!("{many} labels, which docs/telemetry.md lists"),
    };
    Some(format!(
        "no Istio metrics, which before 1.30 need labels, and it is of 1.{minor}: add to defaultConfig.extraStatTags, and \
         restart the pod: {missing}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_sidecars_lack_what_nobody_names() {
        let node = |version: &str, mesh: &[String], pod: &str| {
            let annotations = json!({"sidecar.istio.io/extraStatTags": pod});
            lack(&json!({
                "ISTIO_VERSION": version, "PROXY_CONFIG": {"extraStatTags": mesh}, "ANNOTATIONS": annotations,
            }))
        };
        let all = meltemi_proxy::labels();
        let why = node("1.29.1", &[], "").unwrap();
        assert!(why.contains(&format!("pod: {} labels", all.len())) && why.contains("of 1.29:"), "{why}");
        let why = node("1.28.0", &all[2..], &all[0]).unwrap();
        assert!(why.ends_with(&format!("pod: {}", all[1])), "{why}");
        assert_eq!(node("1.28.0", &all[2..], &all[..2].join(",")), None);
        assert_eq!(node("1.28.0", &all, ""), None);
        for newer in ["1.30.0", "1.31-alpha", "unknown"] {
            assert_eq!(node(newer, &[], ""), None, "{newer}");
        }
        assert_eq!(lack(&json!({})), None, "an Envoy of one's own");
    }

    #[test]
    fn plans_want_them_of_sidecars() {
        let wanted = |istio: Value| are_wanted(&json!({"metrics": {"istio": istio}}));
        assert!(wanted(json!({})) && wanted(json!({"maxSeries": 5, "byNames": false})));
        assert!(!wanted(json!({"byNames": true})) && !wanted(Value::Null) && !are_wanted(&json!({})));
    }
}
