//! Redis, which Envoy's own proxy speaks: the sample, with real servers.

use std::process::Command;
use std::time::{Duration, Instant};

use meltemi_mesh_tests::Pod;
use meltemi_tests::eventually;
use nix::sys::signal::Signal;

use crate::samples::Sample;
use crate::stage;

const SAMPLE: Sample =
    Sample { folder: "redis", namespace: "redis", deployments: &["cache", "archive", "client"] };

#[test]
fn the_sample_of_redis_does_what_it_says() {
    let mut stage = stage::take();
    stage.mesh.provide("redis", &["redis-server", "--protected-mode", "no"]);
    stage.mesh.apply(&SAMPLE.read("namespace.yaml"));
    // The controller may read passwords in that namespace.
    stage.end_controller(Signal::SIGTERM);
    let module = stage.module.clone();
    stage.run_controller(&module, &["--redis-secrets", SAMPLE.namespace]);
    SAMPLE.deploy(&mut stage);
    let pod = |name| stage.mesh.pod(SAMPLE.namespace, name);
    let client = |commands: &str| ask(pod("client"), "cache", "known-to-clients", commands);
    eventually("the clients' password is taken", || (client("SET one 1") == ["OK"]).then_some(()));
    let cache = |name, commands: &str| ask(pod(name), "127.0.0.1", "known-to-the-proxy", commands);
    let archive = |commands: &str| ask(pod("archive"), "127.0.0.1", "", commands);

    // Clients and servers do not know each other's password.
    const REFUSED: [&str; 1] = ["NOAUTH Authentication required."];
    assert_eq!(ask(pod("client"), "cache", "known-to-the-proxy", "GET one"), REFUSED);
    assert_eq!(ask(pod("cache-0"), "127.0.0.1", "known-to-clients", "GET one"), REFUSED);
    assert_eq!(client("GET one"), ["1"]);

    // Keys are divided among the servers. A tenth of the writes is mirrored; five standard deviations.
    client(&each(500, "SET key", " x"));
    let shares = ["cache-0", "cache-1"].map(|name| cache(name, "KEYS key*").len());
    assert!(shares.iter().sum::<usize>() == 500 && shares.iter().all(|keys| *keys > 100), "{shares:?}");
    eventually("a tenth is mirrored", || (17..=83).contains(&archive("KEYS key*").len()).then_some(()));

    // One prefix leads elsewhere, and stays behind.
    client(&each(20, "SET archive:old", " x"));
    assert_eq!(archive("KEYS old*").len(), 20);
    for name in ["cache-0", "cache-1"] {
        assert_eq!(cache(name, "KEYS *old*"), [""; 0]);
    }

    // A fifth of the reads is slow; five standard deviations.
    let start = Instant::now();
    client(&each(200, "GET key", ""));
    assert!(start.elapsed() > Duration::from_millis(50) * 12, "{:?}", start.elapsed());

    eventually("the sample's own client writes", || archive("GET now").first().map(drop));
    SAMPLE.end(&mut stage);
}

/// Commands, one for each number.
fn each(count: u32, before: &str, after: &str) -> String {
    (0..count).map(|number| format!("{before}{number}{after}\n")).collect()
}

/// Sends commands from a pod on one connection, and gives the lines of the answers that are not empty.
fn ask(pod: &Pod, host: &str, password: &str, commands: &str) -> Vec<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-h", host]);
    if !password.is_empty() {
        command.env("REDISCLI_AUTH", password);
    }
    let answers = pod.feed(&mut command, commands);
    answers.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}
