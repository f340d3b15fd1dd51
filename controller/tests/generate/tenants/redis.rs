//! Redis: whose servers and passwords a host stands for.

use serde_json::json;

use super::base;
use crate::{findings, made};
use meltemi::generate::Output;

const HOST: &str = "redis.example.org";

/// A ServiceEntry of the host, and what is said of it in the same namespace.
fn entry(namespace: &str, address: &str, year: u32, export: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: redis, namespace: {namespace}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec:
  hosts: [{HOST}]
  addresses: [{address}]
  exportTo: ['{export}']
  resolution: DNS
  ports: [{{number: 6379, name: tcp-redis, protocol: TCP}}]
---
apiVersion: redis.aeraki.io/v1alpha1
kind: RedisService
metadata: {{name: redis, namespace: {namespace}}}
spec: {{host: [{HOST}]}}
"
    )
}

fn destination(namespace: &str, redis: &str) -> String {
    format!(
        "---
apiVersion: redis.aeraki.io/v1alpha1
kind: RedisDestination
metadata: {{name: redis, namespace: {namespace}}}
spec: {{host: {HOST}, trafficPolicy: {{connectionPool: {{redis: {redis}}}}}}}
"
    )
}

const OWN: &str = "{auth: {plain: {password: of-shop}}}";
const FOREIGN: [&str; 2] =
    ["{auth: {plain: {password: of-evil}}}", "{mode: CLUSTER, discoveryEndpoints: ['of-evil.example:6379']}"];

/// All that a namespace's sidecars are told of Redis.
fn told(output: &Output, namespace: &str) -> String {
    let filters = output.objects.iter().filter(|object| {
        object.metadata.namespace == namespace && object.metadata.name.starts_with("meltemi-redis")
    });
    filters.map(|filter| json!(filter.spec).to_string()).collect()
}

#[test]
fn a_namespaces_own_host_is_its_own_to_speak_for() {
    // Somebody had the host before, for everybody or just for himself.
    for (export, foreign) in [(".", FOREIGN[0]), (".", FOREIGN[1]), ("*", FOREIGN[0]), ("*", FOREIGN[1])] {
        let of_evil = entry("evil", "192.0.2.1", 2020, export) + &destination("evil", foreign);
        let of_shop = entry("shop", "203.0.113.5", 2022, ".") + &destination("shop", OWN);
        let output = made(&(base() + &of_evil + &of_shop));
        let (shop, evil) = (told(&output, "shop"), told(&output, "evil"));
        assert!(shop.contains("203.0.113.5_6379") && shop.contains("of-shop"), "{export} {shop}");
        assert!(!shop.contains("of-evil"), "{export} {shop}");
        assert!(evil.contains("192.0.2.1_6379") && evil.contains("of-evil"), "{export} {evil}");
        assert!(!evil.contains("of-shop"), "{export} {evil}");
        let errors: Vec<String> =
            findings(&output).into_iter().filter(|finding| finding.starts_with("Error")).collect();
        assert_eq!(errors, Vec::<String>::new(), "{export} {foreign}");
        // Others mean the oldest that they see, if any.
        let web = told(&output, "web");
        assert_eq!(web.contains("of-evil"), export == "*", "{export} {web}");
        assert!(!web.contains("of-shop"), "{export} {web}");
    }
}

#[test]
fn where_a_foreign_entry_leads_says_nothing_of_ones_own() {
    // It would go to where clients meant to, which a proxy that reads commands does not know.
    let of_evil = entry("evil", "192.0.2.1", 2020, "*").replace("resolution: DNS", "resolution: NONE");
    let of_shop = entry("shop", "203.0.113.5", 2022, ".") + &destination("shop", OWN);
    let output = made(&(base() + &of_evil + &of_shop));
    assert!(told(&output, "shop").contains("of-shop"), "{:#?}", findings(&output));
}

#[test]
fn a_service_of_kubernetes_is_spoken_for_by_its_namespace_alone() {
    let host = "cache.shop.svc.cluster.local";
    let cache = "---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: tcp-redis, port: 6379}]}
---
apiVersion: redis.aeraki.io/v1alpha1
kind: RedisService
metadata: {name: cache, namespace: shop}
spec: {host: [cache]}
";
    let of_evil =
        (entry("evil", "192.0.2.1", 2020, "*") + &destination("evil", FOREIGN[1])).replace(HOST, host);
    let of_shop = destination("shop", OWN).replace(HOST, host);
    let output = made(&(base() + cache + &of_evil + &of_shop));
    for client in ["shop", "web", "evil"] {
        let told = told(&output, client);
        assert!(told.contains("10.96.0.9_6379") && !told.contains("of-evil"), "{client} {told}");
    }
}
