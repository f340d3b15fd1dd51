//! Which plans proxies should have: the objects that the controller keeps in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::dump::Given;
use super::which::{Site, listed};
use crate::generate::{MANAGED_BY, ROLE, Role};
use crate::kinds::{self, Kind};

/// What the objects of the gateways' plans are called; those of sidecars are called otherwise.
const GATEWAY: &str = "meltemi-gateway";

/// The kinds of objects that deliver the module with its plan.
const DELIVERING: [&str; 2] = ["EnvoyFilter", "WasmPlugin"];

/// A plan that proxies should have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) namespace: String,
    /// The name of its object.
    pub(super) name: String,
    selector: BTreeMap<String, String>,
    /// The plan.
    pub(super) plan: Value,
}

impl Wanted {
    /// A plan for an Envoy that no controller knows.
    pub(super) fn alone(plan: Value) -> Self {
        Self { namespace: String::new(), name: String::new(), selector: BTreeMap::new(), plan }
    }

    /// Whether it is for the proxy of a pod.
    pub(super) fn is_for(&self, site: &Site) -> bool {
        let is_selected = self.selector.iter().all(|(label, value)| site.labels.get(label) == Some(value));
        self.namespace == site.namespace && is_selected && site.is_gateway == self.name.starts_with(GATEWAY)
    }

    /// Whether this is what a proxy was given by that name.
    pub(super) fn is(&self, given: &Given) -> bool {
        match self.name.as_str() {
            "" => true,
            name => given.object() == Some((&self.namespace, name)),
        }
    }
}

/// The plans that the controller keeps in these namespaces, or in all (`None`), which not every user may see.
///
/// # Errors
///
/// The objects cannot be listed.
pub(super) async fn in_cluster(
    client: &Client,
    namespaces: Option<&BTreeSet<&str>>,
) -> Result<Vec<Wanted>, String> {
    let labels = format!("{}={},{ROLE}={}", MANAGED_BY.0, MANAGED_BY.1, Role::Module.label());
    let params = ListParams::default().labels(&labels);
    let mut all = Vec::new();
    let kinds = kinds::written().iter().filter(|kind| DELIVERING.contains(&&*kind.title));
    for resource in kinds.map(Kind::resource) {
        let apis: Vec<Api<DynamicObject>> = match namespaces {
            Some(names) => {
                let api = |name: &&str| Api::namespaced_with(client.clone(), name, &resource);
                names.iter().map(api).collect()
            }
            None => vec![Api::all_with(client.clone(), &resource)],
        };
        for api in apis {
            all.extend(listed(&api, &params, &resource).await?.iter().filter_map(wanted));
        }
    }
    Ok(all)
}

/// The plan of an object that delivers the module.
fn wanted(object: &DynamicObject) -> Option<Wanted> {
    let spec = &object.data["spec"];
    let (plan, selector) = match spec.get("pluginConfig") {
        Some(plan) => (plan.clone(), &spec["selector"]["matchLabels"]),
        None => {
            let config = &spec["configPatches"][0]["patch"]["value"]["typed_config"]["config"];
            let plan = serde_json::from_str(config["configuration"]["value"].as_str()?).ok()?;
            (plan, &spec["workloadSelector"]["labels"])
        }
    };
    Some(Wanted {
        namespace: object.namespace()?,
        name: object.name_any(),
        selector: serde_json::from_value(selector.clone()).unwrap_or_default(),
        plan,
    })
}

/// Whether two plans say the same: istiod may have put their fields in another order, and written numbers another way.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let in_other =
                |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| is_same(value, other));
            one.len() == other.len() && one.iter().all(in_other)
        }
        _ => one == other,
    }
}

/// How two plans differ, in a few words.
pub(super) fn difference(wanted: &Value, given: &Value) -> String {
    let services = |plan: &Value| plan["services"].as_object().cloned().unwrap_or_default();
    let (wanted, given) = (services(wanted), services(given));
    let of_wanted = wanted.iter().filter_map(|(name, value)| match given.get(name) {
        None => Some(format!("{name} is not there yet")),
        Some(given) => (!is_same(value, given)).then(|| format!("{name} differs")),
    });
    let gone = given.keys().filter(|name| !wanted.contains_key(*name));
    let all: Vec<String> = of_wanted.chain(gone.map(|name| format!("{name} is to go"))).collect();
    match all.as_slice() {
        [] => "what is said beside services differs".to_owned(),
        [first] => first.clone(),
        [first, second] => format!("{first}, {second}"),
        [first, second, others @ ..] => format!("{first}, {second}, and {} more", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    /// An API server for somebody who may list these two kinds in the namespace `shop`, and nothing else.
    async fn client() -> Client {
        let list = |Path((group, version, plural)): Path<(String, String, String)>| async move {
            let plugin = json!({
                "metadata": {"namespace": "shop", "name": "meltemi"}, "spec": {"pluginConfig": {"services": {}}},
            });
            let items = match &*plural {
                "wasmplugins" => vec![plugin],
                "envoyfilters" => Vec::new(),
                _ => return Err(StatusCode::FORBIDDEN),
            };
            Ok(Json(json!({
                "apiVersion": format!("{group}/{version}"), "kind": "List", "metadata": {}, "items": items,
            })))
        };
        let router = Router::new()
            .route("/apis/{group}/{version}/namespaces/shop/{plural}", get(list))
            .fallback(|| async { StatusCode::FORBIDDEN });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::try_from(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap()
    }

    #[tokio::test]
    async fn what_is_wanted_in_a_namespace_is_known_by_rights_in_it_alone() {
        let client = client().await;
        let plans = in_cluster(&client, Some(&["shop"].into())).await.unwrap();
        assert_eq!(plans.len(), 1, "{plans:?}");
        let why = in_cluster(&client, None).await.unwrap_err();
        assert!(why.starts_with("cannot list envoyfilters: "), "{why}");
    }

    fn site(namespace: &str, app: &str, is_gateway: bool) -> Site {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        Site { namespace: namespace.to_owned(), labels, is_gateway }
    }

    fn object(value: Value) -> Wanted {
        wanted(&serde_json::from_value(value).unwrap()).unwrap()
    }

    #[test]
    fn a_plan_is_for_the_pods_that_its_object_selects() {
        let plugin = object(json!({
            "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
            "metadata": {"namespace": "shop", "name": "meltemi-server-pay"},
            "spec": {"selector": {"matchLabels": {"app": "pay"}}, "pluginConfig": {"services": {}}},
        }));
        for (at, is) in [
            (site("shop", "pay", false), true),
            (site("shop", "cart", false), false),
            (site("other", "pay", false), false),
            (site("shop", "pay", true), false),
        ] {
            assert_eq!(plugin.is_for(&at), is, "{at:?}");
        }
        let filter = object(json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"namespace": "edge", "name": "meltemi-gateway"},
            "spec": {"workloadSelector": {"labels": {"app": "gate"}}, "configPatches": [{"patch": {"value": {
                "typed_config": {"config": {"configuration": {"value": "{\"services\": {}}"}}}}}}]},
        }));
        assert!(filter.is_for(&site("edge", "gate", true)));
        assert_eq!(filter.plan, plugin.plan);
    }

    #[test]
    fn order_and_the_form_of_numbers_are_no_difference() {
        let [one, other] = [r#"{"a": 5, "b": [1.5, {}]}"#, r#"{"b": [1.5, {}], "a": 5.0}"#]
            .map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert!(is_same(&one, &other));
        assert!(!is_same(&one, &json!({"a": 5, "b": [1.5]})));
    }

    #[test]
    fn what_differs_is_named() {
        let plan = |services: Value| json!({"services": services});
        let given = plan(json!({"a": 1, "gone": 1}));
        assert_eq!(difference(&plan(json!({"a": 1, "gone": 2})), &given), "gone differs");
        assert_eq!(
            difference(&plan(json!({"a": 2, "b": 1, "c": 1})), &given),
            "a differs, b is not there yet, and 2 more"
        );
    }
}
