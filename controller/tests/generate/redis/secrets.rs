//! Passwords of Redis, in Secrets and in what is generated.

use meltemi::generate::{Options, generate};
use serde_json::json;

use super::{patches, redis, resource};
use crate::{findings, made, namespace, options, world};

#[test]
fn secrets_are_read_by_their_fields() {
    let secret = "---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop, labels: {meltemi.io/redis-password: 'true'}}
data: {token: dG9rZW4=, username: YW5u, own: b3du}
";
    for (auth, username, password) in [
        ("{name: s}", json!({"inline_string": "ann"}), "token"),
        ("{name: s, passwordField: own, usernameField: token}", json!({"inline_string": "token"}), "own"),
    ] {
        let service = resource(
            "RedisService",
            "a",
            &format!("{{host: [cache], settings: {{auth: {{secret: {auth}}}}}}}"),
        );
        let output = made(&format!("{}{}{secret}{service}", namespace("shop"), redis("cache", "10.0.0.1")));
        let filter = &patches(&output, "shop", "meltemi-redis-shop")[0]["patch"]["value"]["typed_config"];
        assert_eq!(filter["downstream_auth_username"], username);
        assert_eq!(filter["downstream_auth_passwords"], json!([{"inline_string": password}]));
    }
}

#[test]
fn secrets_are_read_only_if_they_are_for_redis() {
    let mend = "Error RedisService shop/a: spec.settings.auth.secret: nobody said that the Secret shop/s is for Redis: kubectl label \
                secret --namespace=shop s meltemi.io/redis-password=true: the service stays plain TCP";
    let service = resource(
        "RedisService",
        "a",
        "{host: [cache], settings: {auth: {secret: {name: s, passwordField: k}}}}",
    );
    for (labels, kind, is_marked, is_plain) in [
        ("", "", false, true),
        ("", "Opaque", false, true),
        ("", "kubernetes.io/basic-auth", false, true),
        ("meltemi.io/redis-password: 'false'", "", false, true),
        ("meltemi.io/redis-password: 'true'", "", true, true),
        ("meltemi.io/redis-password: 'true'", "kubernetes.io/tls", true, true),
        ("", "meltemi.io/redis", true, true),
        ("", "kubernetes.io/service-account-token", false, false),
        ("", "kubernetes.io/tls", false, false),
        ("", "kubernetes.io/dockerconfigjson", false, false),
    ] {
        let secret = format!(
            "---
apiVersion: v1
kind: Secret
metadata: {{name: s, namespace: shop, labels: {{{labels}}}}}
{}
stringData: {{k: secret}}
",
            if kind.is_empty() { String::new() } else { format!("type: {kind}") }
        );
        let text = format!("{}{}{secret}{service}", namespace("shop"), redis("cache", "10.0.0.1"));
        for (any_secret, is_read) in [(false, is_marked), (true, is_plain)] {
            let output = generate(&world(&text), &Options { any_secret, ..options("dubbo") });
            let case = format!("{labels} {kind} {any_secret}");
            assert_eq!(!output.objects.is_empty(), is_read, "{case}");
            assert_eq!(findings(&output), if is_read { Vec::new() } else { vec![mend] }, "{case}");
        }
    }
}

#[test]
fn a_password_that_ends_a_line_is_told() {
    let secret = "---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop, labels: {meltemi.io/redis-password: 'true'}}
data: {password: dGVzdHJlZGlzCg==}
";
    let auth = "auth: {secret: {name: s}}";
    let service = resource("RedisService", "a", &format!("{{host: [cache], settings: {{{auth}}}}}"));
    let destination = resource(
        "RedisDestination",
        "a",
        &format!("{{host: cache, trafficPolicy: {{connectionPool: {{redis: {{{auth}}}}}}}}}"),
    );
    let output =
        made(&format!("{}{}{secret}{service}{destination}", namespace("shop"), redis("cache", "10.0.0.1")));
    let message =
        "the password ends with the end of a line, which counts: `printf %s` and `echo -n` make one without";
    let wanted = [
        format!("Warning RedisDestination shop/a: spec.trafficPolicy.connectionPool.redis.auth: {message}"),
        format!("Warning RedisService shop/a: spec.settings.auth: {message}"),
    ];
    assert_eq!(findings(&output), wanted);
    let filter = &patches(&output, "shop", "meltemi-redis-shop")[0]["patch"]["value"]["typed_config"];
    assert_eq!(filter["downstream_auth_passwords"], json!([{"inline_string": "testredis\n"}]));
}

#[test]
fn passwords_are_for_those_who_see_the_host() {
    let hidden = redis("store", "10.0.0.2").replace(
        "namespace: shop}",
        "namespace: shop, annotations: {networking.istio.io/exportTo: '., team'}}",
    );
    let service = resource("RedisService", "cache", "{host: [cache], redis: [{route: {host: store}}]}");
    for mode in ["PROXY", "CLUSTER"] {
        let destination = resource(
            "RedisDestination",
            "store",
            &format!(
                "{{host: store, trafficPolicy: {{connectionPool: {{redis: {{mode: {mode}, auth: {{plain: {{password: s3cret}}}}}}}}}}}}"
            ),
        );
        let namespaces: String = ["shop", "team", "web"].map(namespace).concat();
        let output =
            made(&format!("{namespaces}{}{hidden}{service}{destination}", redis("cache", "10.0.0.1")));
        let mut holders = Vec::new();
        for object in &output.objects {
            if json!(object.spec).to_string().contains("s3cret") {
                holders.push(object.metadata.namespace.clone());
            }
        }
        assert_eq!(holders, ["shop", "team"], "{mode}");
        // The one that everybody sees is proxied everywhere.
        assert_eq!(patches(&output, "web", "meltemi-redis-shop").len(), 1, "{mode}");
    }
}
