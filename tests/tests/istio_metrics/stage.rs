//! Envoys that describe themselves and their clusters as Istio does.

use std::fs;
use std::net::SocketAddr;

use meltemi::envoy::Config;
use meltemi_tests::{Setup, files};
use serde_json::{Value, json};

/// What the connection manager has more for these metrics.
const CONFIG: &str = "envoy-configs/istio-metrics.yaml";

/// The cluster of a service, and that of its own pods.
pub const CLUSTER: &str = "outbound|20880||demo.shop.svc.cluster.local";
pub const INBOUND: &str = "inbound|20880||";

/// The item of that name.
pub fn at<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
    list.as_array_mut().unwrap().iter_mut().find(|item| item["name"] == name).unwrap()
}

/// A proxy of the workload `web-v1` as Istio describes it, whose listener `demo` leads to the endpoint `to` of `cluster`, and
/// whose connection manager has loggers for reports.
pub fn setup(cluster: &'static str, to: SocketAddr) -> Setup {
    let text = fs::read_to_string(files::root().join(CONFIG)).unwrap();
    let config = Config::parse(CONFIG, &text).unwrap();
    described(cluster, to).change(|bootstrap| {
        let listeners = &mut bootstrap["static_resources"]["listeners"];
        let manager = &mut at(listeners, "meltemi")["filter_chains"][0]["filters"];
        let manager = &mut at(manager, "envoy.filters.network.http_connection_manager")["typed_config"];
        manager["access_log"] = config.value()["access_log"].clone();
        let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
        routes.as_array_mut().unwrap().insert(0, config.value()["route"].clone());
    })
}

/// The same without loggers.
pub fn described(cluster: &'static str, to: SocketAddr) -> Setup {
    let setup = Setup::new().cluster(cluster, &[to]).servers(to, to);
    setup.change(move |bootstrap| {
        bootstrap["node"]["metadata"] = json!({
            "WORKLOAD_NAME": "web-v1",
            "NAMESPACE": "web",
            "CLUSTER_ID": "Kubernetes",
            "LABELS": {
                "app": "web",
                "version": "v1",
                "service.istio.io/canonical-name": "web-service",
                "service.istio.io/canonical-revision": "r1",
            },
        });
        let resources = &mut bootstrap["static_resources"];
        let manager = &mut at(&mut resources["listeners"], "meltemi")["filter_chains"][0]["filters"];
        let manager = &mut at(manager, "envoy.filters.network.http_connection_manager")["typed_config"];
        let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
        let headers = routes
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .find_map(|route| route.get_mut("response_headers_to_add"));
        let header = |name: &str, value: &str| json!({"header": {"key": name, "value": value}});
        headers.unwrap().as_array_mut().unwrap().extend([
            header("x-meltemi-own-identity", "%UPSTREAM_LOCAL_URI_SAN%"),
            header("x-meltemi-services", "%CLUSTER_METADATA(istio:services)%"),
        ]);
        let tunnel =
            &mut at(&mut resources["listeners"], "demo")["filter_chains"][0]["filters"][0]["typed_config"];
        for header in tunnel["tunneling_config"]["headers_to_add"].as_array_mut().unwrap() {
            if header["header"]["key"] == "x-meltemi-cluster" {
                header["header"]["value"] = cluster.into();
            }
        }
        let cluster = at(&mut resources["clusters"], cluster);
        cluster["metadata"] = json!({"filter_metadata": {"istio": {"services": [
            {"host": "demo.shop.svc.cluster.local", "name": "demo", "namespace": "shop"},
        ]}}});
        let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
        endpoint["metadata"] =
            json!({"filter_metadata": {"istio": {"workload": "demo-v2;shop;demo-service;r2;East"}}});
    })
}

/// An Envoy before a server, whose client has an identity and is of this workload.
pub fn called_by(setup: Setup, workload: &str) -> Setup {
    setup.change(|bootstrap| {
        let tunnel = &mut at(&mut bootstrap["static_resources"]["listeners"], "demo");
        let tunnel = &mut tunnel["filter_chains"][0]["filters"][0]["typed_config"]["tunneling_config"];
        let headers = tunnel["headers_to_add"].as_array_mut().unwrap();
        headers.retain(|header| header["header"]["key"] != "x-meltemi-peer-identity");
        for (name, value) in [
            ("x-meltemi-peer-identity", "spiffe://cluster.local/ns/clients/sa/client"),
            ("x-meltemi-own-identity", "spiffe://cluster.local/ns/web/sa/web"),
            ("x-meltemi-peer-workload", workload),
        ] {
            headers.push(json!({"header": {"key": name, "value": value}}));
        }
    })
}

/// A plan whose service `demo` is `service`, and whose calls are reported.
pub fn plan(service: &Value) -> Value {
    let mut service = service.clone();
    service["protocol"] = "dubbo".into();
    json!({"services": {"demo": service}, "metrics": {"istio": {}}})
}
