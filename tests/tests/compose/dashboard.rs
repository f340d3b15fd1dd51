//! Grafana's dashboard, and how Grafana finds it and its data.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use meltemi::checkout;
use meltemi::envoy::Config;
use regex_lite::Regex;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// The dashboard as it is shipped.
pub struct Dashboard(Value);

impl Dashboard {
    /// Reads it.
    pub fn load() -> Self {
        Self(serde_json::from_str(&read("deploy/grafana/dashboards/meltemi.json")).unwrap())
    }

    /// Each expression as Grafana would send it, after its panel's title.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let panels = self.panels();
        let expression = |panel: &Value, target: &Value| {
            let text = target["expr"].as_str().unwrap();
            let text =
                text.replace("$__rate_interval", "1m").replace("$service", ".*").replace("$method", ".*");
            assert!(!text.contains('$'), "{text}");
            (panel["title"].as_str().unwrap().to_owned(), text)
        };
        let targets = |panel: &Value| panel["targets"].as_array().cloned().unwrap_or_default();
        panels
            .iter()
            .flat_map(|panel| targets(panel).into_iter().map(move |target| expression(panel, &target)))
            .collect()
    }

    fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().unwrap()
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(checkout::root().unwrap().join(file)).unwrap()
}

fn yaml(file: &str) -> Value {
    Config::parse(file, &read(file)).unwrap().value().clone()
}

#[test]
fn panels_are_laid_out() {
    let dashboard = Dashboard::load();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard.panels() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}: its id is taken", panel["title"]);
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{} is too wide", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}

/// Where all calls fail, that is shown, and not that nothing is known.
#[test]
fn a_share_of_nothing_is_none() {
    let expressions = Dashboard::load().expressions();
    let (_, success) = expressions.iter().find(|(panel, _)| panel == "Success").unwrap();
    let series = |metric: &str| json!({"series": format!("{metric}{{service=\"a.B\",method=\"get\"}}"), "values": "0+60x10"});
    for failures in ["meltemi_local_replies_total", "meltemi_responses_total"] {
        let tests = json!({"evaluation_interval": "30s", "tests": [{
            "interval": "30s",
            "input_series": [series(failures)],
            "promql_expr_test": [{
                "expr": success, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 0}],
            }],
        }]});
        let file = NamedTempFile::with_suffix(".yml").unwrap();
        fs::write(file.path(), tests.to_string()).unwrap();
        let output = Command::new("promtool").args(["test", "rules"]).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{failures}: {output:?}");
    }
}

#[test]
fn every_metric_is_shown_and_documented() {
    let metric = Regex::new(r"\bmeltemi_[a-z_]+").unwrap();
    let named = |text: &str| metric.find_iter(text).map(|found| found.as_str().to_owned()).collect();
    let documented: BTreeSet<String> = named(&read("docs/metrics.md"));
    let shown: BTreeSet<String> =
        Dashboard::load().expressions().iter().flat_map(|(_, text)| named(text)).collect();
    assert_eq!(shown, documented);
}

#[test]
fn grafana_finds_dashboard_and_data() {
    let compose = yaml("docker-compose.yml");
    let grafana = &compose["services"]["grafana"];
    let mounts: Vec<_> = grafana["volumes"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert!(mounts.contains(&"./deploy/grafana/provisioning:/etc/grafana/provisioning:ro"), "{mounts:?}");
    let provider = yaml("deploy/grafana/provisioning/dashboards/meltemi.yaml");
    let path = provider["providers"][0]["options"]["path"].as_str().unwrap();
    assert!(mounts.contains(&format!("./deploy/grafana/dashboards:{path}:ro").as_str()), "{mounts:?}");
    let home = &grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home, &format!("{path}/meltemi.json"));

    let source = &yaml("deploy/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    assert!(compose["services"]["prometheus"].is_object());
    let variables = Dashboard::load().0["templating"]["list"].clone();
    assert_eq!(variables[0]["current"]["value"], source["uid"], "the dashboard's first choice");
    let interval = &yaml("deploy/prometheus.yml")["global"]["scrape_interval"];
    assert_eq!(&source["jsonData"]["timeInterval"], interval);
}
