//! The same metrics by names, as of sidecars before Istio 1.30: what Prometheus reads is what reports give.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use meltemi_tests::{Action, Backend, Client, Envoy, Proxy, Setup, each_envoy, eventually, files};
use serde_json::{Value, json};

use crate::stage::{INBOUND, called_by, described, plan, setup};
use crate::{Labels, once, samples};

/// What Istio's bootstrap looks for anywhere in names, before and after the tags that a mesh names.
const BEFORE: [(&str, &str); 9] = [
    ("cluster_name", r"^cluster(\.(.+);)"),
    ("http_conn_manager_prefix", r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)"),
    ("thread_name", r"^server(\.(.+))\.watchdog"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("mongo_prefix", r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"),
];
const AFTER: [(&str, &str); 7] = [
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
];

/// The labels of Istio's metrics, and those of Meltemi's own.
fn tags() -> Vec<String> {
    let own = ["service", "method", "class", "reason", "outcome", "authority", "route", "plugin", "build"];
    files::stat_tags().into_iter().chain(own.map(str::to_owned)).collect()
}

/// Has the proxy be one of Istio's of that version, whose bootstrap makes labels of `tags`.
fn of_istio(setup: Setup, version: &str, tags: &[String]) -> Setup {
    setup.change(|bootstrap| {
        bootstrap["node"]["metadata"]["ISTIO_VERSION"] = version.into();
        bootstrap["node"]["metadata"]["PROXY_CONFIG"] = json!({"extraStatTags": tags});
        let pair = |(name, regex): &(&str, &str)| json!({"tag_name": name, "regex": regex});
        let named =
            tags.iter().map(|tag| json!({"tag_name": tag, "regex": format!(r"({tag}=\.=(.*?);\.;)")}));
        let all: Vec<_> = BEFORE.iter().map(pair).chain(named).chain(AFTER.iter().map(pair)).collect();
        bootstrap["stats_config"] = json!({"use_all_default_tags": false, "stats_tags": all});
    })
}

/// The histograms.
const FAMILIES: [&str; 3] = ["request_duration_milliseconds", "request_bytes", "response_bytes"];

/// Every sample of Istio's metrics, but for times, without what Istio's tags find in values.
fn all(proxy: &Proxy) -> BTreeMap<String, BTreeMap<Labels, u64>> {
    let endings = ["bucket", "sum", "count"];
    let names = FAMILIES.iter().flat_map(|family| endings.map(|ending| format!("istio_{family}_{ending}")));
    let names = names.chain(["istio_requests_total".to_owned()]);
    let of = |name: String| {
        let is_timed = name.contains("duration") && !name.ends_with("count");
        let samples = samples(proxy, &name).into_iter().map(|(mut labels, n)| {
            labels.retain(|name, value| !AFTER.iter().any(|(found, _)| found == name) && !value.is_empty());
            (labels, if is_timed { 0 } else { n })
        });
        (name, samples.collect())
    };
    names.map(of).collect()
}

/// Whether every bucket of the five calls is there.
fn is_whole(proxy: &Proxy, family: &str) -> bool {
    let buckets = samples(proxy, &format!("istio_{family}_bucket"));
    let last = buckets.iter().filter(|(labels, _)| labels.get("le").is_some_and(|bound| bound == "+Inf"));
    buckets.len() == 5 * 20 && last.map(|(_, n)| n).sum::<u64>() == 5
}

/// Makes five calls, of which each ends in another way, and gives what there is of them.
fn calls(setup: Setup, envoy: &Envoy) -> (BTreeMap<String, BTreeMap<Labels, u64>>, Proxy) {
    let proxy = setup.start(envoy);
    let mut client = Client::connect(proxy.meltemi());
    client.ask("sayHello", "a");
    for method in ["slow", "denied", "other", "sayOops"] {
        client.call(method, "x");
    }
    once(&proxy, 5);
    // Reports of buckets come after those of sums.
    eventually("every bucket is reported", || {
        FAMILIES.iter().all(|family| is_whole(&proxy, family)).then_some(())
    });
    (all(&proxy), proxy)
}

fn service() -> Value {
    json!({"onNoMatch": "reject", "routes": [
        {"name": "denied", "match": [{"attributes": {"method": {"exact": "denied"}}}], "reject": {}},
        {"name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}], "timeout": "100ms"},
        {"name": "hello", "match": [{"attributes": {"method": {"prefix": "say"}}}]},
    ]})
}

fn backend() -> Backend {
    let backend = Backend::start("v1");
    backend.on("slow", Action::Ignore);
    backend.on("sayOops", Action::Status(70, "oops".to_owned()));
    backend
}

fn older(to: SocketAddr) -> Setup {
    of_istio(described(INBOUND, to), "1.28.0", &tags()).plan(&plan(&service()))
}

#[test]
fn prometheus_reads_what_reports_give() {
    let backend = backend();
    // Some are what Istio's bootstrap finds in values.
    let client = "com.acme.cache.Component;a.component.B;tag.wasm_filter.B;x_rq_200;a \"b\" \\ {c};\
                  .istio_dry_run_allow_.é中;1,2.shadow_denied.y";
    let reporting = setup(INBOUND, backend.address()).plan(&plan(&service()));
    let (expected, _proxy) = calls(called_by(reporting, client), &Envoy::fetch("1.40.0"));
    assert_eq!(expected["istio_requests_total"].len(), 5);
    assert_eq!(expected["istio_request_bytes_bucket"].len(), 5 * 20);
    each_envoy(|envoy| {
        let (found, proxy) = calls(called_by(older(backend.address()), client), envoy);
        for (name, expected) in &expected {
            let found = &found[name];
            let more: Vec<_> = found.iter().filter(|(labels, n)| expected.get(*labels) != Some(n)).collect();
            let less: Vec<_> = expected.iter().filter(|(labels, n)| found.get(*labels) != Some(n)).collect();
            assert!(
                more.is_empty() && less.is_empty(),
                "{name}: {:#?}, not {:#?}",
                more.first(),
                less.first()
            );
        }
        let left = proxy.metrics();
        let left = left.lines().find(|line| line.contains("source_workload__"));
        assert_eq!(left, None, "no label is left in a name");
    });
}

#[test]
fn values_cannot_be_other_labels() {
    each_envoy(|envoy| {
        let backend = Backend::start("v1");
        // In a certificate or a label there may be much.
        let setup = older(backend.address()).change(|bootstrap| {
            bootstrap["node"]["metadata"]["WORKLOAD_NAME"] =
                "a;.;source_app=.=x;.;reporter=.=source;.".into();
        });
        let proxy = called_by(setup, "b=.=c;clients").start(envoy);
        Client::connect(proxy.meltemi()).ask("sayHello", "a");
        let [(labels, 1)] = &once(&proxy, 1)[..] else { panic!("one call") };
        assert_eq!(status(&proxy)[0]["why"], Value::Null, "it does count");
        assert_eq!(labels["destination_workload"], "a");
        assert_eq!((&*labels["source_workload"], &*labels["source_app"]), ("b_._c", "unknown"));
        assert_eq!(labels["reporter"], "destination");
    });
}

#[test]
fn nothing_is_counted_where_labels_are_not_named() {
    let backend = Backend::start("v1");
    let tags: Vec<_> = tags().into_iter().filter(|tag| tag != "rpc_system").collect();
    let setup = of_istio(described(INBOUND, backend.address()), "1.28.0", &tags).plan(&plan(&json!({})));
    let proxy = setup.start(&Envoy::fetch("1.36.4"));
    let mut client = Client::connect(proxy.meltemi());
    client.ask("sayHello", "a");
    eventually("the log says why", || proxy.log().contains("rpc_system is missing").then_some(()));
    eventually("its own metrics count", || (proxy.metric("meltemi_requests_total", &[]) == 1).then_some(()));
    assert!(!proxy.metrics().contains("istio_request"));
    let [row] = &status(&proxy)[..] else { panic!("one plan") };
    let why = row["why"].as_str().unwrap_or_default();
    assert!(row["state"] == "inForce" && why.ends_with("and restart the pod: rpc_system"), "{row}");
}

/// The rows of `meltemi proxy-status`.
fn status(proxy: &Proxy) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meltemi-under-test"));
    command.args(["proxy-status", "--output", "json", "--admin", &proxy.admin().to_string()]);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

/// On an Envoy of one's own, the plan says it.
#[test]
fn a_plan_may_ask_for_names() {
    each_envoy(|envoy| {
        let backend = Backend::start("v1");
        let setup = older(backend.address()).change(|bootstrap| {
            bootstrap["node"]["metadata"].as_object_mut().unwrap().remove("ISTIO_VERSION");
        });
        let mut plan = plan(&json!({}));
        plan["metrics"]["istio"] = json!({"byNames": true});
        let proxy = setup.plan(&plan).concurrency(2).start(envoy);
        for _ in 0..4 {
            Client::connect(proxy.meltemi()).ask("sayHello", "a");
        }
        assert_eq!(once(&proxy, 4).len(), 1, "workers count the same series");
    });
}
