//! Istio's standard metrics, as Envoy's loggers make them of the module's reports: every label and every bucket.

mod names;
mod queries;
mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_tests::{Action, Backend, Client, Envoy, Proxy, eventually};
use serde_json::json;

use stage::{CLUSTER, INBOUND, at, called_by, plan, setup};

/// The oldest and the newest Envoy whose loggers can do it.
const VERSIONS: [&str; 2] = ["1.38.2", "1.40.0"];

/// The labels of a series of Prometheus's.
type Labels = BTreeMap<String, String>;

fn each_envoy(test: impl Fn(&Envoy)) {
    for version in VERSIONS {
        println!("on Envoy {version}");
        test(&Envoy::fetch(version));
    }
}

/// The samples of a metric, by their labels.
fn samples(proxy: &Proxy, name: &str) -> Vec<(Labels, u64)> {
    let text = proxy.metrics();
    let lines = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (known, labels) = series.strip_suffix('}')?.split_once('{')?;
        (known == name).then_some(())?;
        let labels = labels.split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Some((labels.collect(), value.parse::<f64>().unwrap() as u64))
    });
    lines.collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The samples once the metric counts so many calls.
fn once(proxy: &Proxy, calls: u64) -> Vec<(Labels, u64)> {
    eventually("the calls are reported", || {
        let samples = samples(proxy, "istio_requests_total");
        (samples.iter().map(|(_, n)| n).sum::<u64>() == calls).then_some(samples)
    })
}

#[test]
fn a_client_reports_every_label_and_bucket() {
    each_envoy(|envoy| {
        let backend = Backend::start("v1");
        let proxy = setup(CLUSTER, backend.address()).plan(&plan(&json!({}))).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        backend.on("slow", Action::Delay(Duration::from_millis(60)));
        for text in ["a", "b", "c"] {
            client.ask("sayHello", text);
        }
        client.ask("slow", "d");
        let expected = labels(&[
            ("reporter", "source"),
            ("source_workload", "web-v1"),
            ("source_workload_namespace", "web"),
            ("source_principal", "unknown"),
            ("source_app", "web"),
            ("source_version", "v1"),
            ("source_cluster", "Kubernetes"),
            ("source_canonical_service", "web-service"),
            ("source_canonical_revision", "r1"),
            ("destination_workload", "demo-v2"),
            ("destination_workload_namespace", "shop"),
            ("destination_principal", "unknown"),
            ("destination_app", "demo-service"),
            ("destination_version", "r2"),
            ("destination_cluster", "East"),
            ("destination_service", "demo.shop.svc.cluster.local"),
            ("destination_service_name", "demo"),
            ("destination_service_namespace", "shop"),
            ("destination_canonical_service", "demo-service"),
            ("destination_canonical_revision", "r2"),
            ("request_protocol", "grpc"),
            ("response_code", "200"),
            ("grpc_response_status", "0"),
            ("response_flags", "-"),
            ("connection_security_policy", "unknown"),
            ("rpc_system", "dubbo"),
            ("rpc_outcome", "success"),
        ]);
        assert_eq!(once(&proxy, 4), [(expected.clone(), 4)]);
        for family in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
            let of = |ending: &str| samples(&proxy, &format!("{family}_{ending}"));
            assert_eq!(of("count"), [(expected.clone(), 4)], "{family}");
            let [(sum_labels, sum)] = of("sum").try_into().unwrap();
            assert_eq!(sum_labels, expected, "{family}");
            let buckets: BTreeMap<_, _> = of("bucket")
                .into_iter()
                .map(|(mut labels, n)| {
                    let bound = labels.remove("le").unwrap();
                    assert_eq!(labels, expected, "{family}");
                    (bound, n)
                })
                .collect();
            let bounds = [
                "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000",
                "30000", "60000", "300000", "600000", "1800000", "3600000", "+Inf",
            ];
            assert!(bounds.iter().all(|bound| buckets.contains_key(*bound)), "{family}: {buckets:?}");
            assert_eq!(buckets.len(), bounds.len());
            assert!(bounds.is_sorted_by_key(|bound| buckets[*bound]), "{family}: {buckets:?}");
            assert_eq!((buckets["+Inf"], buckets["3600000"]), (4, 4), "{family}");
            match family {
                "istio_request_duration_milliseconds" => {
                    assert!(buckets["50"] <= 3 && sum >= 60, "{buckets:?} {sum}");
                }
                // A call takes 100 to 250 bytes, an answer fewer than 50.
                "istio_request_bytes" => {
                    assert!(buckets["250"] == 4 && buckets["50"] == 0, "{buckets:?} {sum}")
                }
                _ => assert!(buckets["50"] == 4 && (4 * 16..4 * 50).contains(&sum), "{buckets:?} {sum}"),
            }
        }
    });
}

#[test]
fn a_server_reports_who_calls_and_replies_of_its_own() {
    each_envoy(|envoy| {
        let backend = Backend::start("v1");
        let service = json!({"onNoMatch": "reject", "routes": [
            {"name": "denied", "match": [{"attributes": {"method": {"exact": "denied"}}}], "reject": {}},
            {"name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}], "timeout": "100ms"},
            {"name": "hello", "match": [{"attributes": {"method": {"prefix": "say"}}}]},
        ]});
        let setup = setup(INBOUND, backend.address()).plan(&plan(&service));
        let peer = "spiffe://cluster.local/ns/clients/sa/client";
        let proxy = setup.change(|bootstrap| {
            let tunnel = &mut at(&mut bootstrap["static_resources"]["listeners"], "demo");
            let tunnel = &mut tunnel["filter_chains"][0]["filters"][0]["typed_config"]["tunneling_config"];
            let headers = tunnel["headers_to_add"].as_array_mut().unwrap();
            headers.retain(|header| header["header"]["key"] != "x-meltemi-peer-identity");
            for (name, value) in [
                ("x-meltemi-peer-identity", peer),
                ("x-meltemi-own-identity", "spiffe://cluster.local/ns/web/sa/web"),
                ("x-meltemi-peer-workload", "client-v3;clients;client;v3;client-app;3;West"),
            ] {
                headers.push(json!({"header": {"key": name, "value": value}}));
            }
        });
        let proxy = proxy.start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        backend.on("slow", Action::Ignore);
        backend.on("sayOops", Action::Status(70, "oops".to_owned()));
        client.ask("sayHello", "a");
        for method in ["slow", "denied", "other", "sayOops"] {
            client.call(method, "x");
        }
        let expected = |outcome: &str, status: &str, flags: &str| {
            let all = [
                ("reporter", "destination"),
                ("source_workload", "client-v3"),
                ("source_workload_namespace", "clients"),
                ("source_principal", peer),
                ("source_app", "client-app"),
                ("source_version", "3"),
                ("source_cluster", "West"),
                ("source_canonical_service", "client"),
                ("source_canonical_revision", "v3"),
                ("destination_workload", "web-v1"),
                ("destination_workload_namespace", "web"),
                ("destination_principal", "spiffe://cluster.local/ns/web/sa/web"),
                ("destination_app", "web"),
                ("destination_version", "v1"),
                ("destination_cluster", "Kubernetes"),
                ("destination_service_namespace", "web"),
                ("destination_canonical_service", "web-service"),
                ("destination_canonical_revision", "r1"),
                ("request_protocol", "grpc"),
                ("response_code", "200"),
                ("grpc_response_status", status),
                ("response_flags", flags),
                ("connection_security_policy", "mutual_tls"),
                ("rpc_system", "dubbo"),
                ("rpc_outcome", outcome),
            ];
            labels(&all)
        };
        let mut found = once(&proxy, 5);
        for (labels, n) in &mut found {
            let service = [labels.remove("destination_service"), labels.remove("destination_service_name")];
            let is_served = matches!(labels["rpc_outcome"].as_str(), "success" | "error" | "timeout");
            let names = if is_served { ["demo.shop.svc.cluster.local", "demo"] } else { ["demo", "demo"] };
            assert_eq!(service, names.map(|name| Some(name.to_owned())), "{labels:?}");
            assert_eq!(*n, 1);
        }
        let found: Vec<_> = found.into_iter().map(|(labels, _)| labels).collect();
        for (outcome, status, flags) in [
            ("success", "0", "-"),
            ("error", "13", "-"),
            ("timeout", "4", "UT"),
            ("denied", "7", "UAEX"),
            ("no_route", "12", "NR"),
        ] {
            let expected = expected(outcome, status, flags);
            assert!(found.contains(&expected), "{expected:#?} in {found:#?}");
        }
        assert_eq!(found.len(), 5);
    });
}

/// As Istio's filter reads the exchange of metadata: a filter that tells of what it has read has the tunnel wait for it.
#[test]
fn a_tunnel_that_waits_for_data_knows_what_filters_read() {
    each_envoy(|envoy| {
        let backend = Backend::start("v1");
        let any = json!([{"any": true}]);
        let rules = json!({"policies": {"client-v3": {"permissions": any, "principals": any}}});
        let reader = json!({
            "name": "envoy.filters.network.rbac",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
                "stat_prefix": "reader",
                "shadow_rules": rules,
            },
        });
        let workload =
            "%DYNAMIC_METADATA(envoy.filters.network.rbac:shadow_effective_policy_id)%;clients;-;-;-;-;-";
        let setup = called_by(setup(INBOUND, backend.address()).plan(&plan(&json!({}))), workload);
        let setup = setup.concurrency(1).change(|bootstrap| {
            let listener = at(&mut bootstrap["static_resources"]["listeners"], "demo");
            let filters = listener["filter_chains"][0]["filters"].as_array_mut().unwrap();
            filters[0]["typed_config"]["upstream_connect_mode"] = "ON_DOWNSTREAM_DATA".into();
            filters[0]["typed_config"]["max_early_data_bytes"] = json!(64 << 10);
            filters.insert(0, reader.clone());
        });
        let proxy = setup.start(envoy);
        Client::connect(proxy.meltemi()).ask("sayHello", "a");
        // The next tunnels are opened at once: the way is there. One client speaks late.
        let mut late = Client::connect(proxy.meltemi());
        Client::connect(proxy.meltemi()).ask("sayHello", "a");
        late.ask("sayHello", "a");
        let [(labels, 3)] = &once(&proxy, 3)[..] else { panic!("one series of {:?}", once(&proxy, 3)) };
        assert_eq!(labels["source_workload"], "client-v3");
    });
}
