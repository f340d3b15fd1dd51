//! The commands that work on files: `validate`, `generate`, `explain`, `diff`, and what they read.

mod diff;
mod explain;
mod inputs;
mod plans;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use meltemi::world;
use serde_json::Value;

/// Runs the command: exit code, standard output, standard error.
fn meltemi(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::cargo_bin("meltemi").unwrap();
    let output = command.args(args).write_stdin(input).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio-samples/dubbo").canonicalize().unwrap()
}

const MODULE: &str = "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f001122334";
const DELIVERED: [&str; 4] = ["--istio-version", "1.30", "--module", MODULE];

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: greeter, namespace: shop}
spec:
  clusterIP: 10.0.0.7
  ports: [{name: tcp-dubbo, port: 20880}]
";

const ROUTER: &str = "\
# Two routes.
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: greeter, namespace: shop}
spec:
  hosts: [greeter]
  routes:
  - name: canary
    match:
      attributes: {tag: {exact: canary}, user: {present: true}}
    route:
    - {destination: {host: greeter, port: {number: 20881}}, weight: 90}
    - {destination: {host: greeter}, weight: 10}
    timeout: 2s
    retries: {attempts: 2, retryOn: [reset], perTryTimeout: 500ms, hedge: {after: 50ms, percentile: 95}}
    requestMutation: [{key: k, value: v}]
    responseRemove: [internal]
  - match:
      attributes: {method: {prefix: get}}
    route:
    - destination: {host: greeter}
";

fn both(router: &str) -> String {
    format!("{SERVICE}---\n{router}")
}

#[test]
fn of_resources_in_order_nothing_is_said_but_their_number() {
    let told = |count: &str| (0, format!("{count} checked\n"), String::new());
    assert_eq!(meltemi(&["validate", "-"], &both(ROUTER)), told("2 resources"));
    assert_eq!(meltemi(&["validate", "-"], ROUTER), told("1 resource"));
    let sample = sample();
    let (code, output, error) = meltemi(&["validate", sample.to_str().unwrap()], "");
    assert_eq!((code, &*error), (0, ""));
    assert!(output.contains(" resources checked, "), "{output}");
}

#[test]
fn findings_have_the_place_of_the_field() {
    let mut otherwise = Vec::new();
    // What is written in the router, what is put in its place, the exit code, and how the finding begins.
    for (from, to, code, finding) in [
        ("weight: 90", "weight: 80", 1, "error: -:18:5: spec.routes[0].route: the weights sum to 90; "),
        (
            "timeout: 2s",
            "timeout: soon",
            1,
            "error: -:21:5: spec.routes[0].timeout: \"soon\" is not a duration: ",
        ),
        (
            "timeout: 2s",
            "timeOut: 2s",
            1,
            "error: -:21:5: spec.routes[0].timeOut: unknown field; did you mean timeout?",
        ),
        ("[greeter]", "[greeter, other]", 1, "error: -:13:3: spec.hosts: 2 hosts; "),
        ("exact: canary", "regex: '('", 1, "error: -:17:26: spec.routes[0].match.attributes.tag.regex: "),
        (
            "port: {number: 20881}",
            "port: {number: none}",
            1,
            "error: -:19:44: spec.routes[0].route[0].destination.port.number: invalid type",
        ),
        ("[reset]", "[status]", 1, "error: -:22:28: spec.routes[0].retries.retryOn: has status, "),
        (
            "host: greeter}, weight: 10",
            "host: greeter, subset: v2}, weight: 10",
            0,
            "warning: -:20:37: spec.routes[0].route[1].destination.subset: no DestinationRule",
        ),
        ("[greeter]", "[nobody]", 1, "error: -:13:11: spec.hosts[0]: no managed service has the host"),
        (
            "  - match:\n      attributes: {method: {prefix: get}}\n",
            "  - name: canary\n",
            0,
            "warning: -:25:5: spec.routes[1].name: is that of routes[0] too: ",
        ),
        ("exact: canary}", "exact: canary", 1, "error: -:18:5: not YAML: while parsing a flow mapping"),
        ("kind: MetaRouter\n", "", 1, "error: -:9:1: not a Kubernetes object: apiVersion or kind is missing"),
    ] {
        let router = ROUTER.replacen(from, to, 1);
        assert_ne!(router, ROUTER, "{from}");
        let (exit, output, error) = meltemi(&["validate", "-"], &both(&router));
        assert_eq!((exit, output.lines().count()), (code, 1), "{to}: {error}");
        if !error.lines().any(|line| line.starts_with(finding)) {
            otherwise.push(format!("{finding} is not in {error}"));
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
}

#[test]
fn findings_are_grouped_by_resource() {
    let router = ROUTER.replacen("weight: 90", "weight: 80", 1).replacen("timeout: 2s", "timeout: soon", 1);
    let (_, _, error) = meltemi(&["validate", "-"], &both(&router));
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "MetaRouter shop/greeter");
    assert_eq!(lines.len(), 3, "{error}");
    assert!(lines[1..].iter().all(|line| line.starts_with("error: -:")), "{error}");
}

#[test]
fn findings_can_be_had_as_data() {
    let router = ROUTER.replacen("weight: 90", "weight: 80", 1);
    let (code, output, error) = meltemi(&["validate", "-", "-o", "json"], &both(&router));
    assert_eq!((code, &*error), (1, ""));
    let findings: Value = serde_json::from_str(&output).unwrap();
    let wanted = serde_json::json!([{
        "severity": "error", "file": "-", "line": 18, "column": 5,
        "kind": "MetaRouter", "group": "meltemi.io", "namespace": "shop", "name": "greeter",
        "path": "spec.routes[0].route",
        "message": "the weights sum to 90; those of several destinations must sum to 100",
    }]);
    assert_eq!(findings, wanted);
    let (_, table, _) = meltemi(&["validate", "-", "-o", "table"], &both(&router));
    assert!(table.starts_with("SEVERITY  WHERE   RESOURCE"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    let (code, nothing, _) = meltemi(&["validate", "-", "-o", "json"], &both(ROUTER));
    assert_eq!((code, &*nothing), (0, "[]\n"));
}

#[test]
fn folders_are_read_with_plans_and_resources_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("a/service.yaml", SERVICE);
    write("b/router.yml", &ROUTER.replacen("2s", "2 s", 1));
    write("plan.json", r#"{"services": {"a": {"protocol": "smtp"}}}"#);
    write("values.yaml", "image: {tag: v1}\n");
    write(".hidden/broken.yaml", "apiVersion: [");
    write("notes.txt", "apiVersion: [");
    let (code, _, error) = meltemi(&["validate", folder.path().to_str().unwrap()], "");
    assert_eq!(code, 1);
    let error = error.replace(folder.path().to_str().unwrap(), "");
    assert!(error.contains("error: /plan.json:1:33: services[\"a\"].protocol: unknown protocol"), "{error}");
    assert!(error.contains("error: /b/router.yml:14:5: spec.routes[0].timeout: "), "{error}");
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn lists_defaults_and_duplicates_are_understood() {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "meltemi.io/v1alpha1", "kind": "MetaRouter", "metadata": {"name": "a"}, "spec": {"hosts": []}},
    ]});
    let (code, _, error) = meltemi(&["validate", "-"], &list.to_string());
    assert_eq!(code, 1);
    assert!(error.starts_with("MetaRouter default/a\nerror: -:1:"), "{error}");

    let (code, _, error) = meltemi(&["validate", "-"], &format!("{}---\n{ROUTER}", both(ROUTER)));
    assert_eq!(code, 1);
    assert!(error.contains("metadata.name: duplicate; first defined in -:9; leave one out"), "{error}");

    // What the cluster adds may be in a file of its own.
    let written = SERVICE.replace("  clusterIP: 10.0.0.7\n", "");
    let added = SERVICE.replace("  ports: [{name: tcp-dubbo, port: 20880}]\n", "");
    let (code, _, error) = meltemi(&["validate", "-"], &format!("{written}---\n{added}---\n{ROUTER}"));
    assert_eq!((code, &*error), (0, ""));
}

fn generate(more: &[&str], input: &str) -> (i32, String, String) {
    meltemi(&[&["generate", "-"], &DELIVERED[..], more].concat(), input)
}

#[test]
fn objects_are_written_in_an_order_that_stays() {
    let sample = sample();
    let args = [&["generate", sample.to_str().unwrap()], &DELIVERED[..]].concat();
    let (code, output, error) = meltemi(&args, "");
    assert_eq!((code, &*error), (0, ""));
    let stored = fs::read_to_string(sample.join("generated/objects.yaml")).unwrap();
    let stored = stored.split_once("---\n").unwrap().1;
    assert_eq!(output.strip_prefix("---\n").unwrap(), stored);
    // They are applied in this order: what connections are led to comes first.
    let mut roles: Vec<_> =
        output.lines().filter_map(|line| line.trim().strip_prefix("meltemi.io/role: ")).collect();
    roles.dedup();
    assert_eq!(roles, ["module", "sockets", "tunnel"]);

    let reversed = format!("{ROUTER}---\n{SERVICE}");
    assert_eq!(generate(&[], &both(ROUTER)).1, generate(&[], &reversed).1);
}

#[test]
fn objects_can_be_had_in_other_forms() {
    let (_, yaml, _) = generate(&[], &both(ROUTER));
    let (_, json, _) = generate(&["-o", "json"], &both(ROUTER));
    let list: Value = serde_json::from_str(&json).unwrap();
    let objects: Vec<Value> =
        world::documents("-", &yaml).unwrap().into_iter().map(|document| document.object).collect();
    assert_eq!(list["items"], Value::from(objects.clone()));
    let (_, table, _) = generate(&["-o", "table"], &both(ROUTER));
    assert_eq!(table.lines().count(), objects.len() + 1, "{table}");
    assert!(
        table.contains("the module and its plan") && table.contains("connections of services"),
        "{table}"
    );
}

#[test]
fn nothing_is_written_when_a_resource_is_in_error() {
    let other = SERVICE.replace("greeter", "other").replace("10.0.0.7", "10.0.0.8");
    let input = format!("{}---\n{other}", both(&ROUTER.replacen("weight: 90", "weight: 80", 1)));
    let (code, output, error) = generate(&[], &input);
    assert_eq!((code, &*output), (1, ""));
    assert!(error.contains("spec.routes[0].route: the weights sum to 90"), "{error}");
    assert!(error.contains("--keep-going"), "{error}");
    let (code, output, _) = generate(&["--keep-going"], &input);
    assert_eq!(code, 0);
    assert!(output.contains("other.shop.svc.cluster.local:20880") && !output.contains("canary"), "{output}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    for (args, code, why) in [
        (&["--module", MODULE][..], 2, "--istio-version"),
        (&["--module", "oci://a/b:latest", "--istio-version", "1.30"], 2, "name it by digest"),
        (&["--module", "oci://a/b@sha256:zz", "--istio-version", "1.30"], 2, "64 hexadecimal digits"),
        (&["--module", &MODULE[..MODULE.len() - 1], "--istio-version", "1.30"], 2, "it has 63 characters"),
        (&["--module", "file:///a.wasm", "--istio-version", "1.30"], 2, "write an oci://"),
        (&["--module", MODULE, "--istio-version", "thirty"], 2, "write it as in 1.30"),
        (&["--module", "https://a/b.wasm", "--istio-version", "1.30"], 2, "needs --module-sha256"),
        (
            &["--module", MODULE, "--istio-version", "1.30", "--module-sha256", "12"],
            2,
            "64 hexadecimal digits",
        ),
        (
            &["--module", MODULE, "--delivery", "extension-config", "--image-pull-secret", "a"],
            2,
            "leave out --image-pull-secret",
        ),
    ] {
        let (exit, output, error) = meltemi(&[&["generate", "-"], args].concat(), SERVICE);
        assert_eq!((exit, &*output), (code, ""), "{args:?}: {error}");
        assert!(error.contains(why), "{args:?}: {error}");
    }
    let (code, output, error) =
        meltemi(&["generate", "-", "--module", MODULE, "--delivery", "extension-config"], SERVICE);
    assert_eq!((code, &*error), (0, ""));
    assert!(output.contains("EXTENSION_CONFIG") && !output.contains("WasmPlugin"), "{output}");
}

#[test]
fn resource_definitions_are_printed() {
    let (code, output, _) = meltemi(&["crds"], "");
    assert_eq!(code, 0);
    let documents = world::documents("crds.yaml", &output).unwrap();
    let names: Vec<&str> =
        documents.iter().map(|document| document.object["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "metarouters.meltemi.io",
            "metarouters.metaprotocol.aeraki.io",
            "applicationprotocols.metaprotocol.aeraki.io",
            "applicationprotocols.meltemi.io",
            "redisservices.redis.aeraki.io",
            "redisdestinations.redis.aeraki.io",
            "meltemiauthorizationpolicies.meltemi.io",
            "taps.meltemi.io",
            "dubboauthorizationpolicies.dubbo.aeraki.io",
        ]
    );
}

const POLICY: &str = "\
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  action: DENY
  rules:
  - to: [{operation: {methods: [admin*]}}]
";

#[test]
fn policies_that_are_wrong_never_allow_more() {
    let service = SERVICE.replace("spec:", "spec:\n  selector: {app: greeter}");
    let broken = format!("{service}---\n{}", POLICY.replace("admin*", "ad*min"));
    assert_eq!(generate(&[], &broken).0, 1);
    let (code, output, _) = generate(&["--keep-going"], &broken);
    assert_eq!(code, 0);
    assert!(
        output.contains("name: shop/no-admin/rules") && output.contains("RBAC: access denied"),
        "{output}"
    );

    let unreadable = format!("{service}---\n{}", POLICY.replace("[admin*]", "admin*"));
    let (code, output, error) = generate(&["--keep-going"], &unreadable);
    assert_eq!((code, &*output), (1, ""));
    assert!(error.contains("error: DubboAuthorizationPolicy shop/no-admin cannot be read; "), "{error}");

    let input = format!("{service}---\n{POLICY}");
    let args =
        ["explain", "-", "--host", "greeter", "--inbound", "-a", "interface=a", "-a", "method=adminAll"];
    let (code, output, error) = meltemi(&args, &input);
    assert_eq!((code, &*error), (0, ""));
    assert!(output.contains("✗ shop/no-admin/0\n"), "{output}");
    assert!(
        output.contains("from      DubboAuthorizationPolicy shop/no-admin, spec.rules[0] (-:15:5)"),
        "{output}"
    );
    assert!(output.contains("rejected  RBAC: access denied"), "{output}");
}
