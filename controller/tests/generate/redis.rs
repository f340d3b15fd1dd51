mod secrets;

use serde_json::{Value, json};

use crate::{findings, made, names, namespace, spec};

/// A Redis service of the namespace shop.
fn redis(name: &str, address: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: tcp-redis, port: 6379}}]}}
"
    )
}

/// A resource of Aeraki's for Redis.
fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: redis.aeraki.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

/// The patches of an EnvoyFilter.
#[track_caller]
fn patches(output: &meltemi::generate::Output, namespace: &str, name: &str) -> Vec<Value> {
    match spec(output, "EnvoyFilter", namespace, name)["configPatches"].take() {
        Value::Array(patches) => patches,
        other => panic!("{other}"),
    }
}

const CACHE: &str = "outbound|6379||cache.shop.svc.cluster.local";

/// What asks for the proxy of a service, and for nothing else.
fn asking(name: &str) -> String {
    resource("RedisService", name, &format!("{{host: [{name}]}}"))
}

#[test]
fn the_name_of_a_port_asks_for_nothing() {
    let entry = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: shop}
spec: {hosts: [redis.example.com], addresses: [240.0.0.7], resolution: DNS, ports: [{name: tcp-redis, number: 6379, protocol: TCP}]}
";
    let world = format!(
        "{}{}{}{}{entry}",
        namespace("shop"),
        namespace("web"),
        redis("cache", "10.0.0.1"),
        redis("pending", "''")
    );
    let output = made(&world);
    assert_eq!(names(&output), Vec::<String>::new());
    assert_eq!(findings(&output), Vec::<String>::new());
    // Nor does a resource of another namespace.
    let foreign = |kind: &str, host: &str| {
        resource(kind, "a", &format!("{{host: {host}}}")).replace("namespace: shop", "namespace: web")
    };
    for resource in [
        foreign("RedisService", "[cache.shop.svc.cluster.local]"),
        foreign("RedisDestination", "cache.shop.svc.cluster.local"),
        foreign("RedisDestination", "redis.example.com"),
    ] {
        let output = made(&format!("{world}{resource}"));
        assert_eq!(names(&output), Vec::<String>::new(), "{resource}");
        let found = findings(&output);
        assert!(found.len() == 1 && found[0].contains("belongs to namespace shop"), "{found:?}");
    }
    // One of its own does, for its host alone; to be a target is not to be asked.
    let routed = "{host: [cache], redis: [{route: {host: redis.example.com}}]}";
    for (resource, address) in [
        (asking("cache"), "10.0.0.1"),
        (resource("RedisDestination", "a", "{host: cache}"), "10.0.0.1"),
        (resource("RedisService", "a", routed), "10.0.0.1"),
        (resource("RedisService", "a", "{host: [redis.example.com]}"), "240.0.0.7"),
        (resource("RedisDestination", "a", "{host: redis.example.com}"), "240.0.0.7"),
    ] {
        let output = made(&format!("{world}{resource}"));
        let listeners = patches(&output, "web", "meltemi-redis-shop");
        let listeners = listeners.iter().map(|patch| patch["match"]["listener"]["name"].clone());
        assert_eq!(listeners.collect::<Vec<_>>(), [format!("{address}_6379")], "{resource}");
    }
}

#[test]
fn names_of_ours_need_no_resource() {
    let two = "---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  ports:
  - {name: tcp-metaprotocol-redis, port: 6379}
  - {name: admin, appProtocol: meltemi.io/redis, port: 6380}
  - {name: tcp, port: 1}
  - {name: tcp-redis, port: 2}
";
    let output = made(&format!("{}{}{two}", namespace("shop"), namespace("web")));
    // No module and no sockets.
    let wanted =
        ["shop/meltemi-redis", "shop/meltemi-redis-shop", "web/meltemi-redis", "web/meltemi-redis-shop"];
    assert_eq!(names(&output), wanted.map(|name| format!("EnvoyFilter {name}")));
    assert_eq!(findings(&output), Vec::<String>::new());
    let listeners = patches(&output, "web", "meltemi-redis-shop");
    let names = listeners.iter().map(|patch| patch["match"]["listener"]["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["10.0.0.1_6379", "10.0.0.1_6380"]);
    let wanted = json!({
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": "SIDECAR_OUTBOUND",
            "listener": {
                "name": "10.0.0.1_6379",
                "filterChain": {"filter": {"name": "envoy.filters.network.tcp_proxy"}},
            },
        },
        "patch": {"operation": "REPLACE", "value": {
            "name": "envoy.filters.network.redis_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                "stat_prefix": CACHE,
                "settings": {"op_timeout": "60s"},
                "prefix_routes": {"catch_all_route": {"cluster": CACHE}},
            },
        }},
    });
    assert_eq!(listeners[0], wanted);
    let wanted = json!({
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"name": CACHE}},
        "patch": {"operation": "MERGE", "value": {"lb_policy": "MAGLEV"}},
    });
    assert_eq!(patches(&output, "web", "meltemi-redis")[0], wanted);
}

#[test]
fn every_field_of_a_redis_service_is_honoured() {
    let service = resource(
        "RedisService",
        "cache",
        "
  host: [cache]
  settings:
    auth: {plain: {username: ann, password: s3cret}}
    opTimeout: 1m30s
    enableHashtagging: true
    enableRedirection: true
    enableCommandStats: true
    maxBufferSizeBeforeFlush: 1024
    bufferFlushTimeout: 3ms
    readPolicy: PREFER_REPLICA
    caseInsensitive: true
    maxUpstreamUnknownConnections: 7
  redis:
  - match: {key: {prefix: 'a:', removePrefix: true}}
    route: {host: other, port: 7000}
    mirror:
    - {route: {host: cache}}
    - {route: {host: cache}, percentage: {value: 12.5}, excludeReadCommands: true}
  - match: {key: {prefix: 'A:'}}
    route: {host: cache}
  - route: {host: cache}
  faults:
  - {type: ERROR, commands: [GET, SET]}
  - {type: DELAY, delay: 250ms, percentage: {value: 0.5}}
",
    );
    let destination = resource(
        "RedisDestination",
        "other",
        "{host: other, trafficPolicy: {connectionPool: {redis: {mode: CLUSTER}}}}",
    );
    let output = made(&format!(
        "{}{}{}{service}{destination}",
        namespace("shop"),
        redis("cache", "10.0.0.1"),
        redis("other", "10.0.0.2")
    ));
    let filters = patches(&output, "shop", "meltemi-redis-shop");
    let filter = filters.iter().find(|patch| patch["match"]["listener"]["name"] == "10.0.0.1_6379").unwrap();
    let wanted = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
        "stat_prefix": CACHE,
        "settings": {
            "op_timeout": "90s",
            "enable_hashtagging": true,
            "enable_redirection": true,
            "dns_cache_config": {"name": "meltemi-redis", "dns_lookup_family": "V4_PREFERRED"},
            "enable_command_stats": true,
            "max_buffer_size_before_flush": 1024,
            "buffer_flush_timeout": "0.003s",
            "max_upstream_unknown_connections": 7,
            "read_policy": "PREFER_REPLICA",
        },
        "prefix_routes": {
            "case_insensitive": true,
            "routes": [{
                "prefix": "a:",
                "remove_prefix": true,
                "cluster": "redis|7000||other.shop.svc.cluster.local",
                "request_mirror_policy": [
                    {"cluster": CACHE},
                    {
                        "cluster": CACHE,
                        "runtime_fraction": {"default_value": {"numerator": 125_000, "denominator": "MILLION"}},
                        "exclude_read_commands": true,
                    },
                ],
            }],
            "catch_all_route": {"cluster": CACHE},
        },
        "downstream_auth_passwords": [{"inline_string": "s3cret"}],
        "downstream_auth_username": {"inline_string": "ann"},
        "faults": [
            {
                "fault_type": "ERROR",
                "fault_enabled": {"default_value": {"numerator": 1_000_000, "denominator": "MILLION"}},
                "commands": ["GET", "SET"],
            },
            {
                "fault_type": "DELAY",
                "fault_enabled": {"default_value": {"numerator": 5_000, "denominator": "MILLION"}},
                "delay": "0.250s",
            },
        ],
    });
    assert_eq!(filter["patch"]["value"]["typed_config"], wanted);
    let told = findings(&output);
    assert!(
        told.iter().any(|finding| finding.contains("spec.redis[1].match.key.prefix: never matches")),
        "{told:?}"
    );
}

#[test]
fn a_destination_shapes_its_cluster() {
    let destination = resource(
        "RedisDestination",
        "cache",
        "
  host: cache
  trafficPolicy:
    connectionPool:
      tcp: {connectTimeout: 1500ms, maxConnections: 5, tcpKeepalive: {probes: 3, time: 1m, interval: 10s}}
      redis: {auth: {plain: {username: bob, password: s3cret}}}
",
    );
    let output = made(&format!("{}{}{destination}", namespace("shop"), redis("cache", "10.0.0.1")));
    let value = &patches(&output, "shop", "meltemi-redis")[0]["patch"]["value"];
    let wanted = json!({
        "lb_policy": "MAGLEV",
        "connect_timeout": "1.500s",
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 60, "keepalive_interval": 10},
        },
        "typed_extension_protocol_options": {"envoy.filters.network.redis_proxy": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions",
            "auth_username": {"inline_string": "bob"},
            "auth_password": {"inline_string": "s3cret"},
        }},
    });
    assert_eq!(*value, wanted);
    let wanted = "NotHonoured RedisDestination shop/cache: spec.trafficPolicy.connectionPool.tcp.maxConnections: Envoy's Redis \
                  proxy has one connection of each worker thread to each server, and no limit for them";
    assert_eq!(findings(&output), [wanted]);
}

#[test]
fn a_redis_cluster_is_discovered() {
    let headless = "---
apiVersion: v1
kind: Service
metadata: {name: nodes, namespace: shop}
spec: {clusterIP: None, ports: [{name: tcp-redis, port: 6379}]}
";
    let service = resource("RedisService", "cache", "{host: [cache], redis: [{route: {host: nodes}}]}");
    let destination = resource(
        "RedisDestination",
        "nodes",
        "{host: nodes, trafficPolicy: {connectionPool: {redis: {mode: CLUSTER, discoveryEndpoints: ['nodes:6379', '10.9.0.1:7', '[fd00::1]:8']}}}}",
    );
    let output =
        made(&format!("{}{}{headless}{service}{destination}", namespace("shop"), redis("cache", "10.0.0.1")));
    let clusters = patches(&output, "shop", "meltemi-redis");
    assert_eq!(clusters.len(), 1);
    assert_eq!(clusters[0]["patch"]["operation"], "ADD");
    let value = &clusters[0]["patch"]["value"];
    assert_eq!(value["name"], "redis|6379||nodes.shop.svc.cluster.local");
    assert_eq!(value["cluster_type"]["name"], "envoy.clusters.redis");
    let endpoints = value["load_assignment"]["endpoints"][0]["lb_endpoints"].as_array().unwrap();
    let address = |endpoint: &Value| endpoint["endpoint"]["address"]["socket_address"].clone();
    let wanted = [
        json!({"address": "10.9.0.1", "port_value": 7}),
        json!({"address": "fd00::1", "port_value": 8}),
        json!({"address": "nodes.shop.svc.cluster.local", "port_value": 6379}),
    ];
    assert_eq!(endpoints.iter().map(address).collect::<Vec<_>>(), wanted);
    let told = findings(&output);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(
            "Warning RedisDestination shop/nodes: spec.trafficPolicy.connectionPool.redis.mode: "
        )
    );
}

#[test]
fn what_cannot_be_honoured_stays_plain_and_is_told() {
    let told = |resources: &str| {
        let output = made(&format!("{}{}{resources}", namespace("shop"), redis("cache", "10.0.0.1"),));
        (names(&output), findings(&output))
    };
    let both: Vec<_> =
        ["EnvoyFilter shop/meltemi-redis", "EnvoyFilter shop/meltemi-redis-shop"].map(str::to_owned).to_vec();
    for (resources, managed, wanted) in [
        (
            resource("RedisService", "a", "{host: [cache], settings: {auth: {secret: {name: gone}}}}"),
            false,
            "Error RedisService shop/a: spec.settings.auth.secret: there is no Secret shop/gone, or no right to read it (`meltemi install \
             --redis-secrets=shop`): the service stays plain TCP",
        ),
        (
            resource(
                "RedisDestination",
                "a",
                "{host: cache, trafficPolicy: {connectionPool: {redis: {auth: {secret: {name: gone}}}}}}",
            ),
            false,
            "Error RedisDestination shop/a: spec.trafficPolicy.connectionPool.redis.auth.secret: there is no Secret shop/gone, or \
             no right to read it (`meltemi install --redis-secrets=shop`): the services that lead to cache.shop.svc.cluster.local stay \
             plain TCP",
        ),
        (
            resource("RedisService", "a", "{host: [web]}"),
            false,
            "Error RedisService shop/a: spec.host[0]: no service with a port of Redis has the host \"web\": name one whose port is \
             called tcp-redis or has the appProtocol meltemi.io/redis",
        ),
        (
            resource("RedisService", "a", "{host: [cache]}")
                + &resource("RedisService", "b", "{host: [cache]}"),
            true,
            "Warning RedisService shop/b: spec.host[0]: RedisService shop/a holds for cache.shop.svc.cluster.local",
        ),
        (
            resource("RedisService", "a", "{host: [cache], settings: {readPolicy: REPLICA}}"),
            true,
            "NotHonoured RedisService shop/a: spec.settings.readPolicy: only of a Redis cluster Envoy knows which server is a \
             replica: name one by a RedisDestination with the mode CLUSTER",
        ),
        (
            resource(
                "RedisService",
                "a",
                "{host: [cache], redis: [{match: {key: {prefix: x}}, route: {host: cache}}]}",
            ),
            true,
            "Warning RedisService shop/a: spec.redis: keys that match no prefix are answered with an error: add a route without a \
             match for them",
        ),
        (
            resource("RedisService", "a", "{host: [cache], redis: [{route: {host: gone}}]}"),
            true,
            "Warning RedisService shop/a: spec.redis[0].route.host: no service has the host \"gone.shop.svc.cluster.local\": its \
             commands fail until one does",
        ),
        (
            resource("RedisDestination", "a", "{host: other}"),
            false,
            "Warning RedisDestination shop/a: spec.host: no managed Redis service leads to other.shop.svc.cluster.local: it has \
             no effect",
        ),
    ] {
        let (names, findings) = told(&resources);
        assert_eq!(findings, [wanted]);
        assert_eq!(names, if managed { both.clone() } else { Vec::new() }, "{wanted}");
    }
}

#[test]
fn a_service_is_for_its_own_namespace_to_rule() {
    let foreign =
        resource("RedisService", "a", "{host: [cache.shop.svc.cluster.local], settings: {opTimeout: 1s}}")
            .replace("namespace: shop", "namespace: web");
    let own = asking("cache");
    let output = made(&format!(
        "{}{}{}{foreign}{own}",
        namespace("shop"),
        namespace("web"),
        redis("cache", "10.0.0.1")
    ));
    let wanted = "Error RedisService web/a: spec.host[0]: cache.shop.svc.cluster.local belongs to namespace shop; configure it \
                  there";
    assert_eq!(findings(&output), [wanted]);
    let settings =
        &patches(&output, "web", "meltemi-redis-shop")[0]["patch"]["value"]["typed_config"]["settings"];
    assert_eq!(*settings, json!({"op_timeout": "60s"}));
}

#[test]
fn only_those_who_see_a_service_get_its_proxy() {
    let hidden = redis("cache", "10.0.0.1")
        .replace("namespace: shop}", "namespace: shop, annotations: {networking.istio.io/exportTo: '.'}}");
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec: {workloadSelector: {labels: {app: web}}, egress: [{hosts: ['./cache.shop.svc.cluster.local']}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['istio-system/*']}]}
";
    let hidden = hidden + &asking("cache");
    let output = made(&format!("{}{}{hidden}", namespace("shop"), namespace("web")));
    assert!(output.objects.iter().all(|object| object.metadata.namespace == "shop"));
    assert_eq!(output.objects.len(), 2);
    let output = made(&format!("{}{hidden}{sidecar}", namespace("shop")));
    assert_eq!(output.objects.len(), 2);
    for object in &output.objects {
        assert_eq!(json!(object.spec)["workloadSelector"], json!({"labels": {"app": "web"}}));
    }
}
