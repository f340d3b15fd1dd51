//! `meltemi proxy-status` and `proxy-config`, asked of real Envoys.

use std::net::SocketAddr;
use std::process::{Command, Output};

use meltemi_tests::proxy::plan_of;
use meltemi_tests::{Backend, Client, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

fn meltemi(command: &str, admin: SocketAddr, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meltemi-under-test"))
        .args([command, "--admin", &admin.to_string()])
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// The rows of `proxy-status`, and whether all is as it should be.
fn status(proxy: &Proxy, arguments: &[&str]) -> (bool, Vec<Value>) {
    let output = meltemi("proxy-status", proxy.admin(), &[&["--output", "json"], arguments].concat());
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

/// The one row, once its state is this.
fn row(proxy: &Proxy, state: &str, arguments: &[&str]) -> Value {
    eventually(state, || {
        let (is_fine, rows) = status(proxy, arguments);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        (row["state"] == state).then(|| {
            assert_eq!(is_fine, state == "inForce" || state == "unmanaged", "{row}");
            row.clone()
        })
    })
}

fn to(cluster: &str) -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"cluster": cluster, "timeout": "5s"}})
}

#[test]
fn what_a_proxy_runs_and_refuses_is_told() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&to("v1"));
        let mut proxy = setup.concurrency(2).start(envoy);
        let first = row(&proxy, "inForce", &[]);
        assert_eq!((&first["plugin"], &first["services"]), (&json!("meltemi"), &json!(1)), "{first}");
        assert_eq!(first["module"]["build"], env!("CARGO_PKG_VERSION"), "{first}");
        assert!(first["since"].as_str().is_some_and(|since| since.starts_with("20")), "{first}");

        let mut bad = to("v2");
        bad["defaultRoute"]["timeuot"] = "1s".into();
        proxy.update_service(&bad);
        let refused = row(&proxy, "refused", &[]);
        let why = refused["why"].as_str().unwrap();
        assert!(why.starts_with(r#"services["demo"].defaultRoute.timeuot: "#), "{why}");
        assert!(why.ends_with("the plan before stays in force"), "{why}");
        assert_eq!(Client::connect(proxy.meltemi()).ask("sayHello", "x"), "v1", "it does stay");

        proxy.update_service(&to("v2"));
        let second = row(&proxy, "inForce", &[]);
        assert_ne!(first["digest"], second["digest"]);
        // Each worker follows when it comes to it.
        eventually("it is in force", || {
            (Client::connect(proxy.meltemi()).ask("sayHello", "x") == "v2").then_some(())
        });
    });
}

#[test]
fn what_is_wanted_is_compared() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = || Setup::new().servers(v1.address(), v2.address()).service(&to("v1"));
        let proxy = setup().start(envoy);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan.json");
        let wants = |plan: &Value| std::fs::write(&file, plan.to_string()).unwrap();
        let asked = ["--wanted", file.to_str().unwrap()];
        wants(&plan_of(&to("v1")));
        row(&proxy, "inForce", &asked);
        wants(&plan_of(&to("v2")));
        let stale = row(&proxy, "stale", &asked);
        assert!(stale["why"].as_str().unwrap().contains("demo differs"), "{stale}");

        let bare = setup().without_module().start(envoy);
        row(&bare, "missing", &asked);
        row(&bare, "unmanaged", &[]);
    });
}

/// One proxy that does not answer hides nothing of the others.
#[test]
fn a_proxy_that_is_down_is_shown() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&to("v1"));
        let proxy = setup.start(envoy);
        row(&proxy, "inForce", &[]);
        let output = meltemi("proxy-status", proxy.admin(), &["--admin", "127.0.0.1:1"]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("PROXY ") && lines[1].contains(" in force "), "{text}");
        assert!(
            lines[2].starts_with("127.0.0.1:1 ")
                && lines[2].contains(" unreachable ")
                && lines[2].contains("--admin"),
            "{text}"
        );
    });
}

#[test]
fn the_plan_of_a_proxy_is_shown() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let mut plan = plan_of(&to("v1"));
        plan["services"]["other"] =
            json!({"protocol": "thrift", "onNoMatch": "reject", "limits": {"maxCallsPerConnection": 5}});
        let headers = json!({"authorization": "Bearer secret"});
        plan["services"]["traced"] =
            json!({"protocol": "dubbo", "tracing": {"collector": "v2", "headers": headers}});
        let proxy = Setup::new().servers(v1.address(), v2.address()).plan(&plan).start(envoy);
        for format in ["json", "yaml"] {
            let output = meltemi("proxy-config", proxy.admin(), &["--output", format]);
            assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"), "{output:?}");
        }
        let output = meltemi("proxy-config", proxy.admin(), &["--output", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        plan["services"]["traced"]["tracing"]["headers"]["authorization"] = "(hidden)".into();
        assert_eq!(shown[0]["plan"], plan);
        let output = meltemi("proxy-config", proxy.admin(), &["--service", "oth"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words.len(), 2, "{text}");
        assert_eq!(words[1][1..], ["meltemi", "other", "thrift", "0", "rejected", "-", "limits"], "{text}");
    });
}
