//! `meltemi tap` through a real API server, and taps that end by themselves.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use meltemi_tests::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Api, NOBODY, shared};
use crate::controller::Controller;
use crate::kubelet::{Kubelet, LAST};
use crate::{make_service, plugin_path, wait_for_objects};

fn meltemi(api: &Api, namespace: &str, arguments: &[&str]) -> Child {
    meltemi_with(&api.admin(), namespace, arguments)
}

/// The same with the rights of a configuration.
fn meltemi_with(configuration: &Path, namespace: &str, arguments: &[&str]) -> Child {
    // It ends with the thread of the test.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_mesh-meltemi")])
        .args(["tap", "--namespace", namespace])
        .args(arguments)
        .env("KUBECONFIG", configuration)
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn taps(api: &Api, namespace: &str) -> Vec<Value> {
    api.list(&format!("/apis/meltemi.io/v1alpha1/namespaces/{namespace}/taps"))
}

/// The taps in the plan of the namespace's clients.
fn planned(api: &Api, namespace: &str) -> Value {
    api.find(&plugin_path(namespace)).unwrap()["spec"]["pluginConfig"]["taps"].clone()
}

/// Waits until there is a tap that the plan has, and says what it is called.
fn wait_for_tap(api: &Api, namespace: &str) -> String {
    eventually("a tap is on", || {
        let name = taps(api, namespace).first()?["metadata"]["name"].as_str()?.to_owned();
        (planned(api, namespace)[0]["name"] == *name).then_some(name)
    })
}

fn wait_for_none(api: &Api, namespace: &str) {
    eventually("no tap is on", || {
        (taps(api, namespace).is_empty() && planned(api, namespace).is_null()).then_some(())
    });
}

/// A line as Envoy logs it.
fn line(tap: &str, method: &str) -> String {
    line_of(tap, method, "success")
}

fn line_of(tap: &str, method: &str, reason: &str) -> String {
    let told = json!({"event": "tap", "reason": reason, "authority": "greeter.taps.svc:20880", "service": "a.B",
        "method": method, "detail": "routes[0]", "tries": 1, "taps": {tap: {"tenant": "x"}}});
    format!("[2026-01-01 00:00:00.000][7][warning][wasm] [context.cc:1] wasm log: meltemi: {told}\n")
}

#[test]
fn taps_are_made_followed_and_undone() {
    let api = shared();
    make_service(&api, "taps");
    let controller = Controller::start(&api, "taps");
    wait_for_objects(&api, "taps");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("client.log");
    let mut log = File::create(&path).unwrap();
    let kubelet = Kubelet::start_with(HashMap::new(), HashMap::from([("client".to_owned(), path)]));
    kubelet.run(&api, "taps", &[("client", "client")]);

    // It shows what the proxy tells of its tap, and takes it away.
    let wanted =
        ["client", "--match", "method=get*", "--attribute", "tenant", "--percent", "50", "--for", "10m"];
    let mut child = meltemi(&api, "taps", &[&wanted[..], &["--count", "2", "--output", "json"]].concat());
    let name = wait_for_tap(&api, "taps");
    let tap = planned(&api, "taps")[0].clone();
    assert_eq!([&tap["pods"], &tap["attributes"]], [&json!(["client"]), &json!(["tenant"])]);
    assert_eq!(tap["percent"].as_f64(), Some(50.0));
    assert_eq!(tap["match"], json!([{"attributes": {"method": {"prefix": "get"}}}]));
    write!(log, "something else\n{}{}", line("another", "getA"), line(&name, "getB")).unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let call: Value = serde_json::from_str(&told.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        [&call["method"], &call["pod"], &call["side"], &call["why"]],
        ["getB", "client", "client", "routes[0]"]
    );
    assert_eq!(call["attributes"], json!({"tenant": "x"}));
    write!(log, "{}", line(&name, "getC")).unwrap();
    assert!(told.next().unwrap().unwrap().contains("getC"));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && told.next().is_none(), "{output:?}");
    wait_for_none(&api, "taps");

    // One that is killed leaves a tap, which ends.
    let mut child = meltemi(&api, "taps", &["--selector", "app=client", "--for", "5s"]);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert!(first.starts_with("tapping 1 proxy in taps for 5s (tap-"), "{first}");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for_none(&api, "taps");

    // What cannot be is said, and leaves nothing.
    for (arguments, message) in [
        (&["nobody"][..], "no pod of nobody that runs in namespace taps has a container istio-proxy"),
        (&["deploy/nobody"], "Deployment taps/nobody: "),
        (&["client", "--match", "method~a("], "match.attributes.method.regex: "),
        (&["client", "--percent", "0"], "percent: 0 is not a share; "),
    ] {
        let output = meltemi(&api, "taps", arguments).wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(message), "{arguments:?}: {said}");
    }
    assert_eq!(taps(&api, "taps"), Vec::<Value>::new());
    assert!(controller.end().success());
}

#[test]
fn pods_that_come_and_begin_anew_are_followed() {
    const NAMESPACE: &str = "taps-later";
    let api = shared();
    make_service(&api, NAMESPACE);
    let controller = Controller::start(&api, NAMESPACE);
    wait_for_objects(&api, NAMESPACE);
    let folder = TempDir::new().unwrap();
    let path = |pod: &str| folder.path().join(pod);
    let [mut first, mut later] = ["first", "later"].map(|pod| File::create(path(pod)).unwrap());
    let logs = ["first", "later"].map(|pod| (pod.to_owned(), path(pod))).into();
    let kubelet = Kubelet::start_with(HashMap::new(), logs);
    kubelet.run(&api, NAMESPACE, &[("first", "client")]);
    let arguments = ["--selector", "app=client", "--for", "10m", "--count", "4", "--output", "json"];
    let mut child = meltemi(&api, NAMESPACE, &arguments);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let call: Value = serde_json::from_str(&told.next().unwrap().unwrap()).unwrap();
        ["pod", "method"].map(|field| call[field].as_str().unwrap().to_owned())
    };
    let name = wait_for_tap(&api, NAMESPACE);
    write!(first, "{}", line(&name, "before")).unwrap();
    assert_eq!(next(), ["first", "before"]);

    // A container that ends, and the next one.
    first.write_all(format!("{}{LAST}", line(&name, "at-the-end")).as_bytes()).unwrap();
    assert_eq!(next(), ["first", "at-the-end"]);
    write!(first, "{}", line(&name, "after")).unwrap();
    assert_eq!(next(), ["first", "after"]);

    // A pod that comes, whose clock is ahead.
    kubelet.run(&api, NAMESPACE, &[("later", "client")]);
    write!(later, "{}", line_of(&name, "", "ended")).unwrap();
    let ahead = "later: tells of no more calls, as the tap has ended by its clock";
    assert!(said.by_ref().map(Result::unwrap).any(|line| line.contains(ahead)));
    write!(later, "{}", line(&name, "later")).unwrap();
    assert_eq!(next(), ["later", "later"]);
    assert!(child.wait().unwrap().success());
    wait_for_none(&api, NAMESPACE);
    assert!(controller.end().success());
}

#[test]
fn a_log_that_may_not_be_read_ends_no_tap_of_others() {
    const NAMESPACE: &str = "taps-rights";
    let api = shared();
    make_service(&api, NAMESPACE);
    api.apply(&format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: some, namespace: {NAMESPACE}}}
rules:
- {{apiGroups: [meltemi.io], resources: [taps], verbs: [create, get, delete]}}
- {{apiGroups: [''], resources: [pods], verbs: [list]}}
- {{apiGroups: [''], resources: [pods/log], resourceNames: [open], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: some, namespace: {NAMESPACE}}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {NOBODY}}}]
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: some}}
"
    ));
    let controller = Controller::start(&api, NAMESPACE);
    wait_for_objects(&api, NAMESPACE);
    let folder = TempDir::new().unwrap();
    let path = |pod: &str| folder.path().join(pod);
    let [mut log, _closed] = ["open", "closed"].map(|pod| File::create(path(pod)).unwrap());
    let logs = ["open", "closed"].map(|pod| (pod.to_owned(), path(pod))).into();
    let kubelet = Kubelet::start_with(HashMap::new(), logs);
    kubelet.run(&api, NAMESPACE, &[("open", "client"), ("closed", "client")]);

    let arguments = ["--selector", "app=client", "--for", "10m", "--count", "1", "--output", "json"];
    let mut child = meltemi_with(&api.nobody(), NAMESPACE, &arguments);
    let name = wait_for_tap(&api, NAMESPACE);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let refused = said.by_ref().find(|line| line.contains("closed: its log cannot be read: ")).unwrap();
    assert!(refused.contains("`get` on pods/log is needed"), "{refused}");
    write!(log, "{}", line(&name, "getA")).unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert!(told.contains("getA") && told.contains("open"), "{told}");
    assert!(child.wait().unwrap().success());
    wait_for_none(&api, NAMESPACE);

    // Where none is left, it fails, and leaves nothing.
    let child = meltemi_with(&api.nobody(), NAMESPACE, &["closed", "--for", "10m"]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("no log of these proxies may be read"),
        "{said}"
    );
    wait_for_none(&api, NAMESPACE);
    assert!(controller.end().success());
}
