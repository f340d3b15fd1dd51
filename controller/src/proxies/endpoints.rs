//! The endpoints of the clusters that plans name, as Envoy knows them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::config::plans;
use super::reach::Question;
use super::which::{Proxy, ask_each};

/// What asks for all clusters and their endpoints: thousands in a large mesh.
const QUESTION: Question = Question { path: "/clusters?format=json", most: 32 << 20 };

/// An endpoint of a cluster: what all proxies that were asked know of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub(crate) cluster: String,
    pub(crate) address: String,
    /// `healthy`, or why Envoy sends nothing there.
    pub(crate) health: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    pub(crate) weight: u64,
    /// Connections that are open.
    pub(crate) connections: u64,
    /// Connections that could not be opened.
    pub(crate) connect_failures: u64,
    /// How many proxies know it.
    pub(crate) proxies: usize,
}

/// The endpoints of the clusters that each proxy's plans name, put together.
pub(crate) async fn endpoints(proxies: &[Proxy]) -> Vec<Endpoint> {
    let mut clusters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    plans(proxies, |proxy, plans| {
        clusters.insert(proxy.to_owned(), named(plans.iter().flatten().map(|(_, plan)| plan)));
    })
    .await;
    let clusters = &clusters;
    // Of each answer no more is kept than what is of these clusters.
    let ask = |proxy: Proxy| async move {
        let text = proxy.get(QUESTION).await.ok()?;
        let known: Value = serde_json::from_str(&text).ok()?;
        Some(of(&known, clusters.get(&proxy.name)?).collect::<Vec<_>>())
    };
    let mut all = BTreeMap::new();
    ask_each(proxies, ask, |_, known| known.into_iter().flatten().for_each(|one| add(&mut all, one))).await;
    all.into_values().collect()
}

/// Adds what one proxy knows of an endpoint.
fn add(all: &mut BTreeMap<(String, String), Endpoint>, endpoint: Endpoint) {
    let key = (endpoint.cluster.clone(), endpoint.address.clone());
    let sum = all.entry(key).or_insert_with(|| Endpoint { weight: endpoint.weight, ..Endpoint::default() });
    // What is counted may be anything.
    let connections = sum.connections.saturating_add(endpoint.connections);
    let connect_failures = sum.connect_failures.saturating_add(endpoint.connect_failures);
    // One that any proxy leaves out is shown so.
    let is_fine = sum.health.is_empty() || sum.health == HEALTHY;
    let health = if is_fine { endpoint.health } else { std::mem::take(&mut sum.health) };
    *sum = Endpoint {
        connections,
        connect_failures,
        health,
        weight: sum.weight,
        proxies: sum.proxies + 1,
        ..endpoint
    };
}

const HEALTHY: &str = "healthy";

/// The clusters that plans name, and those of the services' own names.
fn named<'a>(plans: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (authority, service) in plans.filter_map(|plan| plan["services"].as_object()).flatten() {
        // Where calls go that no route sends elsewhere: Istio's name for it, or the same name.
        names.insert(authority.clone());
        if let Some((host, port)) = authority.rsplit_once(':') {
            names.insert(format!("outbound|{port}||{host}"));
        }
        collect(service, &mut names);
    }
    names
}

/// Every value of a field `cluster`, however deep.
fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            names.extend(fields.get("cluster").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

/// The endpoints of these clusters in an answer of Envoy's.
fn of<'a>(answer: &'a Value, named: &'a BTreeSet<String>) -> impl Iterator<Item = Endpoint> + 'a {
    let clusters = answer["cluster_statuses"].as_array().into_iter().flatten();
    let ours = clusters.filter(|cluster| cluster["name"].as_str().is_some_and(|name| named.contains(name)));
    ours.flat_map(|cluster| {
        let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
        hosts.map(|host| endpoint(cluster["name"].as_str().unwrap_or_default(), host))
    })
}

fn endpoint(cluster: &str, host: &Value) -> Endpoint {
    let text = |value: &Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let socket = &host["address"]["socket_address"];
    let address = match (text(&socket["address"]), socket["port_value"].as_u64()) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        _ => ["envoy_internal_address", "pipe"]
            .iter()
            .find_map(|kind| host["address"][kind].as_object()?.values().find_map(text))
            .unwrap_or_else(|| "?".to_owned()),
    };
    let stat = |name: &str| {
        let stats = host["stats"].as_array().into_iter().flatten();
        let value = stats.into_iter().find(|stat| stat["name"] == name).map(|stat| &stat["value"]);
        // Envoy writes numbers of 64 bits as texts, and none for 0.
        value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())).unwrap_or_default()
    };
    let health = host["health_status"].as_object().into_iter().flatten();
    let failed = health.filter(|(_, value)| **value == Value::Bool(true)).map(|(name, _)| name.as_str());
    let failed: Vec<&str> = failed.collect();
    let eds = text(&host["health_status"]["eds_health_status"]).filter(|status| status != "HEALTHY");
    Endpoint {
        cluster: cluster.to_owned(),
        address,
        health: match (failed.as_slice(), eds) {
            ([], None) => HEALTHY.to_owned(),
            ([], Some(status)) => status.to_lowercase(),
            (failed, _) => failed.join(", ").replace('_', " "),
        },
        zone: text(&host["locality"]["zone"]),
        weight: host["weight"].as_u64().unwrap_or(1),
        connections: stat("cx_active"),
        connect_failures: stat("cx_connect_fail"),
        proxies: 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_clusters_of_a_plan_are_those_that_it_names() {
        let plan = json!({"services": {"demo.shop.svc:20880": {
            "routes": [{"name": "a", "cluster": "v1"}, {"name": "b", "weightedClusters": [{"cluster": "v2"}]}],
        }}});
        let names = named([&plan].into_iter());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, ["demo.shop.svc:20880", "outbound|20880||demo.shop.svc", "v1", "v2"]);
    }

    #[test]
    fn an_endpoint_is_what_envoy_says_of_it() {
        let host = json!({
            "address": {"socket_address": {"address": "10.0.0.1", "port_value": 20880}},
            "stats": [{"name": "cx_active", "value": "3", "type": "GAUGE"}, {"name": "cx_connect_fail"}],
            "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": true},
            "weight": 2,
            "locality": {"zone": "a"},
        });
        let expected = Endpoint {
            cluster: "v1".to_owned(),
            address: "10.0.0.1:20880".to_owned(),
            health: "failed outlier check".to_owned(),
            zone: Some("a".to_owned()),
            weight: 2,
            connections: 3,
            connect_failures: 0,
            proxies: 1,
        };
        assert_eq!(endpoint("v1", &host), expected);
        let host = json!({"health_status": {"eds_health_status": "DRAINING"}});
        assert_eq!(
            (endpoint("v1", &host).health.as_str(), endpoint("v1", &host).address.as_str()),
            ("draining", "?")
        );
    }

    #[test]
    fn what_proxies_count_of_an_endpoint_has_no_end() {
        let mut all = BTreeMap::new();
        let known = |health: &str, connections| Endpoint {
            health: health.to_owned(),
            connections,
            weight: 3,
            ..Endpoint::default()
        };
        for one in [known(HEALTHY, u64::MAX), known("draining", 2), known(HEALTHY, 1)] {
            add(&mut all, one);
        }
        let all: Vec<Endpoint> = all.into_values().collect();
        assert_eq!(all, [Endpoint { proxies: 3, ..known("draining", u64::MAX) }]);
    }
}
