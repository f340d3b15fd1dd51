//! `meltemi validate` and `meltemi schema`, which must agree with the filter and with each other.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::meltemi;

fn validate(plan: &str) -> (i32, String) {
    let (code, output, error) = meltemi(&["validate", "-"], plan);
    assert_eq!(output, "1 plan checked\n");
    (code, error)
}

const GOOD: &str = r#"{
  "services": {
    "demo": {
      "protocol": "dubbo",
      "routes": [
        {"name": "canary", "match": [{"attributes": {"tag": {"exact": "canary"}}}], "cluster": "v2"},
        {"name": "split", "weightedClusters": [{"cluster": "v1", "weight": 90}, {"cluster": "v2", "weight": 10}]}
      ],
      "defaultRoute": {"timeout": "2s", "retry": {"attempts": 2, "on": ["connect-failure", "reset"]}}
    }
  }
}"#;

#[test]
fn a_good_plan_is_passed_over_in_silence() {
    assert_eq!(validate(GOOD), (0, String::new()));
    assert_eq!(validate("{}"), (0, String::new()));
}

#[test]
fn what_the_filter_refuses_is_told_with_its_place() {
    // What is written in the good plan, what is put in its place, and where and how the error must begin.
    for (from, to, place) in [
        (r#""dubbo","#, r#""dubbo""#, "-:5:7: expected"),
        (r#""protocol""#, r#""protocoll""#, r#"-:4:20: services["demo"].protocoll: unknown field"#),
        (r#""dubbo""#, r#""smtp""#, r#"-:4:19: services["demo"].protocol: unknown protocol "smtp""#),
        (r#""split""#, r#""canary""#, r#"-:7:18: services["demo"].routes[1].name: "canary""#),
        (r#""exact""#, r#""exakt""#, r#"-:6:71: services["demo"].routes[0].match[0].attributes.tag.exakt: "#),
        (
            r#"{"exact": "canary"}"#,
            r#"{"regex": "("}"#,
            r#"-:6:71: services["demo"].routes[0].match[0].attributes.tag.regex: not a regular expression"#,
        ),
        (
            r#"{"exact": "canary"}"#,
            r#"{}"#,
            r#"-:6:61: services["demo"].routes[0].match[0].attributes.tag: no matcher"#,
        ),
        (r#""2s""#, r#""2 seconds""#, r#"-:9:35: services["demo"].defaultRoute.timeout: "2 seconds" is not"#),
        (r#""2s""#, r#"2"#, r#"-:9:35: services["demo"].defaultRoute.timeout: expected a duration"#),
        (
            r#""weight": 90"#,
            r#""weight": -1"#,
            r#"-:7:76: services["demo"].routes[1].weightedClusters[0].weight: "#,
        ),
        (r#""connect-failure""#, r#""sunshine""#, r#"-:9:73: services["demo"].defaultRoute.retry.on[0]: "#),
        (
            r#""attempts": 2"#,
            r#""attempts": 2, "attempts": 3"#,
            r#"-:9:50: services["demo"].defaultRoute.retry: duplicate "attempts""#,
        ),
    ] {
        let plan = GOOD.replacen(from, to, 1);
        assert_ne!(plan, GOOD, "{from}");
        let (code, error) = validate(&plan);
        assert_eq!(code, 1, "{to}: {error}");
        assert!(error.starts_with(&format!("error: {place}")), "{to}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn what_works_but_is_hardly_meant_is_warned_of() {
    let plan = GOOD.replacen(r#""match": [{"attributes": {"tag": {"exact": "canary"}}}], "#, "", 1);
    let (code, warning) = validate(&plan);
    assert_eq!(code, 0, "{warning}");
    assert!(warning.starts_with(r#"warning: -:7:9: services["demo"].routes[1]: gets no call"#), "{warning}");
}

#[test]
fn files_are_read_as_their_names_say() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let (code, _, error) = meltemi(&["validate", path], "");
        (code, error.replace(path, name))
    };
    assert_eq!(check("plan.json", GOOD), (0, String::new()));
    assert_eq!(check("plan.yaml", "services:\n  demo: {protocol: dubbo}\n"), (0, String::new()));
    let (code, error) = check("plan.yml", "services:\n  demo: {protocol: smtp}\n");
    assert_eq!(code, 1);
    assert!(error.starts_with(r#"error: plan.yml: services["demo"].protocol: "#), "{error}");
    let (code, error) = check("plan.yaml", "services: [\n");
    assert_eq!(code, 1);
    assert!(error.starts_with("error: plan.yaml:1:11: not YAML: "), "{error}");
    let (code, _, error) = meltemi(&["validate", "/no/such/plan.json"], "");
    assert_eq!(code, 1);
    assert!(error.starts_with("error: cannot read /no/such/plan.json: "), "{error}");
}

#[test]
fn the_file_that_envoy_watches_is_checked_in_its_own_lines() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy-configs/dubbo.plan.yaml");
    let told = "1 plan checked\n".to_owned();
    assert_eq!(meltemi(&["validate", shipped.to_str().unwrap()], ""), (0, told, String::new()));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dubbo.plan.yaml");
    let text = fs::read_to_string(shipped).unwrap().replacen(r#""dubbo""#, r#""smtp""#, 1);
    let (line, column) = text
        .lines()
        .enumerate()
        .find_map(|(line, text)| Some((line + 1, text.find(r#""smtp""#)? + 1)))
        .unwrap();
    fs::write(&path, text).unwrap();
    let (code, _, error) = meltemi(&["validate", path.to_str().unwrap()], "");
    assert_eq!(code, 1);
    let place = format!(r#"error: {}:{line}:{column}: services["demo"].protocol: "#, path.display());
    assert!(error.starts_with(&place), "{error}");
}

#[test]
fn the_schema_accepts_what_the_filter_accepts() {
    let (code, schema, _) = meltemi(&["schema"], "");
    assert_eq!(code, 0);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let plan = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    validator.validate(&plan(GOOD)).unwrap();
    validator.validate(&plan("{}")).unwrap();

    for (from, to) in [
        (r#""protocol""#, r#""protocoll""#),
        (r#""exact""#, r#""exakt""#),
        (r#"{"exact": "canary"}"#, r#"{"exact": "a", "prefix": "b"}"#),
        (r#""2s""#, r#""2 seconds""#),
        (r#""weight": 90"#, r#""weight": -1"#),
        (r#"["connect-failure", "reset"]"#, r#"["sunshine"]"#),
        (r#""attempts": 2"#, r#""attempts": "two""#),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert!(!validator.is_valid(&plan(&text)), "the schema accepts {to}");
        assert_eq!(validate(&text).0, 1, "the filter accepts {to}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = meltemi(&["completions", shell], "");
        assert_eq!(code, 0);
        assert!(script.contains("meltemi") && script.contains("validate"), "{shell}");
    }
    assert_eq!(meltemi(&["completions", "smalltalk"], "").0, 2);
}
