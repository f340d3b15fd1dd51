//! The alerts that are shipped: they fire when they should and only then, are about metrics that there are, and each is
//! explained.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use meltemi_tests::files;
use regex_lite::Regex;

/// What `promtool` says of a file below the checkout's root.
fn promtool(arguments: &[&str], file: &str) {
    let output = Command::new("promtool").args(arguments).arg(file).current_dir(files::root()).output();
    let output = output
        .unwrap_or_else(|error| panic!("promtool: {error}; install it with `apt-get install prometheus`"));
    assert!(output.status.success(), "{output:?}");
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(files::root()).join(path)).unwrap()
}

fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn each_alert_fires_on_its_own_cause() {
    promtool(&["check", "rules"], "deploy/alerts.yml");
    promtool(&["test", "rules"], "tests/tests/alerts.test.yml");
    let fired = all(r"alertname: (\w+)\n    exp_alerts:", &read("tests/tests/alerts.test.yml"));
    assert_eq!(fired, all(r"- alert: (\w+)", &read("deploy/alerts.yml")));
}

#[test]
fn each_alert_is_explained() {
    let (rules, page) = (read("deploy/alerts.yml"), read("docs/alerts.md"));
    let alerts = all(r"- alert: (\w+)", &rules);
    assert_eq!(alerts, all(r"(?m)^## (\w+)$", &page));
    let anchors: BTreeSet<_> = alerts.iter().map(|alert| alert.to_lowercase()).collect();
    assert_eq!(anchors, all(r"runbook_url: docs/alerts.md#(\S+)", &rules));
}

#[test]
fn alerts_are_about_metrics_that_there_are() {
    let known = read("docs/metrics.md") + &read("docs/controller.md");
    for metric in all(r"\b(meltemi_\w+)", &read("deploy/alerts.yml")) {
        let own = metric.strip_prefix("meltemi_controller_").unwrap_or(&metric);
        assert!(known.contains(&format!("`{own}`")) || known.contains(&format!("`{own}{{")), "{metric}");
    }
}
