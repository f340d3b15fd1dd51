//! What Istio's dashboards and Kiali's graph ask of Prometheus, asked of one that reads both sidecars.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use meltemi_tests::{Action, Backend, Client, Envoy, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{CLUSTER, INBOUND, called_by, plan, setup};

/// Debian's Prometheus.
struct Prometheus {
    address: String,
    process: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Reads the metrics of Envoys each second.
    fn start(targets: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"scrape_configs": [{
            "job_name": "envoy",
            "scrape_interval": "1s",
            "metrics_path": "/stats/prometheus",
            "static_configs": [{"targets": targets}],
        }]});
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let path = folder.path().join("log");
        let log = File::create(&path).unwrap();
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(file).arg("--storage.tsdb.path").arg(folder.path().join("tsdb"));
        command.args(["--web.listen-address", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().expect("prometheus; install it with `apt-get install prometheus`");
        let address = eventually("Prometheus tells its port", || {
            let log = fs::read_to_string(&path).unwrap();
            let (_, address) = log.split_once("\"Listening on\" address=")?;
            Some(address.split_once('\n')?.0.to_owned())
        });
        Self { address, process, _folder: folder }
    }

    /// The series that `expression` gives, with their values.
    fn query(&self, expression: &str) -> Option<Vec<(Value, f64)>> {
        let config = ureq::Agent::config_builder().proxy(None).build();
        let request = ureq::Agent::from(config).get(format!("http://{}/api/v1/query", self.address));
        let text = request.query("query", expression).call().ok()?.body_mut().read_to_string().ok()?;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {text}"));
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse().unwrap();
        Some(series.iter().map(|series| (series["metric"].clone(), value(series))).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// By what Kiali groups what it draws.
const GROUPS: &str = "source_cluster,source_workload_namespace,source_workload,source_canonical_service,\
    source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,\
    destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,\
    destination_canonical_revision,request_protocol,response_code,grpc_response_status,response_flags";

#[test]
fn dashboards_and_graphs_find_what_they_ask_for() {
    let envoy = Envoy::fetch("1.40.0");
    let backend = Backend::start("v1");
    backend.on("oops", Action::Status(70, "oops".to_owned()));
    let server = setup(INBOUND, backend.address()).plan(&plan(&json!({})));
    let server = called_by(server, "client-v3;clients;client;v3;client;v3;Kubernetes");
    let server = server.start(&envoy);
    let client = setup(CLUSTER, server.meltemi()).plan(&plan(&json!({}))).start(&envoy);
    let prometheus = Prometheus::start(&[client.admin(), server.admin()].map(|admin| admin.to_string()));
    let mut calls = Client::connect(client.meltemi());
    let mut call = || {
        calls.ask("sayHello", "x");
        calls.call("oops", "x");
    };
    let mut ask = |expression: &str| {
        eventually(expression, || {
            call();
            let series = prometheus.query(expression)?;
            series.iter().any(|(_, value)| *value > 0.0).then_some(series)
        })
    };

    // The dashboards of meshes, services and workloads.
    let demo = r#"destination_service=~"demo.shop.svc.cluster.local""#;
    for reporter in ["source", "destination"] {
        let of = format!(r#"reporter=~"{reporter}",{demo}"#);
        for expression in [
            format!("round(sum(irate(istio_requests_total{{{of}}}[5m])), 0.001)"),
            format!("sum(rate(istio_requests_total{{{of}}}[1m])) by (destination_workload, source_workload)"),
        ] {
            ask(&expression);
        }
        let success = format!(
            r#"sum(irate(istio_requests_total{{{of},response_code!~"5.*"}}[5m])) / sum(irate(istio_requests_total{{{of}}}[5m]))"#
        );
        assert_eq!(ask(&success)[0].1, 1.0, "{success}");
        for (family, unit) in
            [("request_duration_milliseconds", "/ 1000"), ("request_bytes", ""), ("response_bytes", "")]
        {
            for quantile in ["0.50", "0.90", "0.99"] {
                let rate = format!("sum(rate(istio_{family}_bucket{{{of}}}[1m])) by (le)");
                let series = ask(&format!("histogram_quantile({quantile}, {rate}) {unit}"));
                assert!(series[0].1.is_finite(), "{family}: {series:?}");
            }
        }
    }
    let mutual = r#"sum(irate(istio_requests_total{reporter="destination",connection_security_policy="mutual_tls"}[5m])) by (source_workload, source_workload_namespace, response_code)"#;
    let series = ask(mutual);
    assert_eq!(series[0].0["source_workload"], "client-v3", "{series:?}");

    // Kiali's graph: traffic into and out of a namespace, its errors and its response times.
    for (of, namespace) in [
        (r#"reporter="destination",destination_workload_namespace="web""#, "destination_workload_namespace"),
        (r#"reporter="source",source_workload_namespace="web""#, "source_workload_namespace"),
    ] {
        let traffic = format!("sum(rate(istio_requests_total{{{of}}}[60s])) by ({GROUPS}) > 0");
        let both = eventually("success and failure are told apart", || {
            let series = ask(&traffic);
            (series.len() == 2).then_some(series)
        });
        for (labels, _) in &both {
            assert_eq!(labels[namespace], "web");
            assert!(GROUPS.split(',').all(|label| labels[label].is_string()), "{labels}");
            assert!(!labels.to_string().contains("unknown"), "{labels}");
            assert_eq!(
                (&labels["request_protocol"], &labels["response_code"]),
                (&json!("grpc"), &json!("200"))
            );
        }
        let mut statuses: Vec<_> = both.iter().map(|(labels, _)| &labels["grpc_response_status"]).collect();
        statuses.sort_unstable_by_key(|status| status.to_string());
        assert_eq!(statuses, ["0", "13"]);
        let times = format!(
            "histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{{{of}}}[60s])) by (le,{GROUPS})) > 0"
        );
        ask(&times);
    }
}
