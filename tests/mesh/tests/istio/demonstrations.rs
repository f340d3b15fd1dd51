//! Aeraki's demonstrations of traffic policies as `kubectl apply` has them, word for word, and what comes of them: where a copy
//! lies beside a folder above this one, as `shared/aeraki`.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meltemi_mesh_tests::Workload;
use meltemi_tests::limiter::Limiter;
use meltemi_tests::{Backend, Client, Frame, eventually, files, server_of};
use serde_json::Value;

use crate::stage::{self, SERVERS, Stage, count};

const NAMESPACE: &str = "meta-dubbo";
/// Where the demonstrations with a Service for each application are called, and its name.
const APPLICATION: (&str, &str) = ("10.96.40.3:20880", "dubbo-sample-provider.meta-dubbo.svc.cluster.local");
/// The same of those with a ServiceEntry for each interface, which have no addresses.
const INTERFACE: (&str, &str) = ("10.99.1.2:20880", "org.apache.dubbo.samples.basic.api.demoservice");
const PORT: u16 = 20880;
const THREADPOOL_EXHAUSTED: u8 = 100;

/// What a demonstration has in the cluster; `None` where there is no copy.
fn demo(name: &str) -> Option<String> {
    let demos = files::aeraki("demos")?;
    Some(fs::read_to_string(demos.join(format!("{name}.yaml"))).unwrap())
}

/// The servers that the demonstrations of Dubbo ask for. Their pods stay for the next of these tests.
fn serve(stage: &mut Stage) -> [Backend; 2] {
    stage.mesh.make_namespace(NAMESPACE);
    if !stage.mesh.has_pod(NAMESPACE, SERVERS[0]) {
        let pod = |version| Workload::new(NAMESPACE, version).label("version", version);
        stage.mesh.start_pods(SERVERS.map(|version| pod(version).label("app", "dubbo-sample-provider")));
    }
    SERVERS.map(|name| {
        let pod = stage.mesh.pod(NAMESPACE, name);
        pod.enter(|| Backend::start_at(name, (pod.address(), PORT).into()))
    })
}

/// Applies a demonstration, and waits until sidecars have what `wanted` says of its service: that of the client, or for limits
/// those of both servers.
fn apply(stage: &mut Stage, demo: &str, host: &str, wanted: impl Fn(&Value) -> bool) {
    stage.apply(demo);
    let (pods, key) = match demo.contains("RateLimit:") {
        true => {
            (SERVERS.map(|name| stage.mesh.pod(NAMESPACE, name)).to_vec(), format!("inbound.{host}:{PORT}"))
        }
        false => (vec![stage.pod("client")], format!("{host}:{PORT}")),
    };
    for pod in pods {
        pod.wait_for_plan(|plan| wanted(&plan["services"][&key]));
        eventually(&format!("{key} is known"), || pod.settings().to_string().contains(&key).then_some(()));
    }
}

/// A connection to a worker of the client's sidecar that has routes: they learn of the plan one after the other.
fn connect(stage: &Stage, address: &str) -> Option<Client> {
    let mut client = stage.connect(address);
    client.call("sayHello", "x").message().is_none().then_some(client)
}

#[test]
fn a_fifth_of_the_calls_goes_to_the_first_version() {
    let Some(demo) = demo("metaprotocol-dubbo-app-level--traffic-split") else { return };
    let mut stage = stage::take();
    let _servers = serve(&mut stage);
    apply(&mut stage, &demo, APPLICATION.1, |service| service["routes"][0]["weightedClusters"].is_array());
    // Five standard deviations.
    let shares = eventually("calls are split", || {
        let mut client = stage.connect(APPLICATION.0);
        // What the demonstration's route asks for; it has no other.
        let mut ask = |id| {
            let attachments = [("foo", "bar")];
            client.send(&Frame::request_of(
                "org.apache.dubbo.samples.basic.api.DemoService",
                id,
                "sayHello",
                "x",
                &attachments,
            ));
            client.receive()
        };
        if ask(1).message().is_some() {
            return None;
        }
        let servers = count(500, || server_of(&ask(2), "x"));
        servers.get("v1").is_some_and(|calls| (56..=144).contains(calls)).then_some(servers)
    });
    println!("{shares:?} of 500 calls");
}

#[test]
fn all_calls_are_copied() {
    let Some(demo) = demo("metaprotocol-dubbo-app-level--traffic-mirroring") else { return };
    let mut stage = stage::take();
    let [_v1, v2] = serve(&mut stage);
    apply(&mut stage, &demo, APPLICATION.1, |service| service["routes"][0]["mirrors"].is_array());
    let mut client = eventually("calls are copied", || {
        let mut client = connect(&stage, APPLICATION.0)?;
        let is_led = (0..50).all(|_| client.ask("sayHello", "x") == "v1");
        (is_led && v2.calls("sayHello") > 0).then_some(client)
    });
    assert_eq!(count(200, || client.ask("measured", "x")), [("v1".to_owned(), 200)].into());
    eventually("the copies arrive", || (v2.calls("measured") == 200).then_some(()));
}

#[test]
fn calls_of_a_method_go_to_one_server() {
    let is_hashed = |service: &Value| service["upstream"].to_string().contains("hashBy");
    let Some(demo) = demo("metaprotocol-dubbo--consistent-hash-lb_destinationrule") else { return };
    let mut stage = stage::take();
    let _servers = serve(&mut stage);
    apply(&mut stage, &demo, INTERFACE.1, is_hashed);
    // Envoy's workers learn of the plan and of the ring one after the other.
    let by_method = eventually("two connections lead each method to one server", || {
        let mut clients = [connect(&stage, INTERFACE.0)?, connect(&stage, INTERFACE.0)?];
        let mut of_method = |number: usize| {
            let servers = count(10, || clients[number % 2].ask(&format!("method{number}"), "x"));
            let other = clients[1 - number % 2].ask(&format!("method{number}"), "x");
            (servers.len() == 1 && servers.contains_key(&other)).then_some(other)
        };
        (0..30).map(&mut of_method).collect::<Option<Vec<_>>>()
    });
    let shares = count(30, {
        let mut servers = by_method.into_iter();
        move || servers.next().unwrap()
    });
    assert_eq!(shares.len(), 2, "{shares:?} of 30 methods");
}

/// How many of so many calls the servers take. The others are refused in these words, or `late` because nobody decided in time.
fn passed(client: &mut Client, calls: usize, refusal: &str) -> usize {
    let answers = (0..calls).map(|_| client.call("sayHello", "x"));
    let (refused, passed): (Vec<_>, Vec<_>) =
        answers.partition(|answer| answer.status == THREADPOOL_EXHAUSTED);
    for answer in refused {
        let message = answer.message().unwrap();
        assert!(message.contains(refusal) || message.contains("did not answer in time"), "{message}");
    }
    passed.len()
}

#[test]
fn a_server_takes_two_calls_in_ten_seconds() {
    const TIME: Duration = Duration::from_secs(10);
    let Some(demo) = demo("metaprotocol-dubbo-app-level--metarouter-local-ratelimit") else { return };
    let mut stage = stage::take();
    let _servers = serve(&mut stage);
    apply(&mut stage, &demo, APPLICATION.1, |service| service["localRateLimit"].is_object());
    let burst = |client: &mut Client, calls| passed(client, calls, "over the rate limit of 2 calls in 10s");
    // Envoy's workers learn of the plan one after the other.
    let mut client = eventually("calls are limited", || {
        let mut client = stage.connect(APPLICATION.0);
        (burst(&mut client, 50) == 0).then_some(client)
    });
    let first =
        eventually("the bucket is filled", || Some(burst(&mut client, 1)).filter(|passed| *passed > 0));
    let start = Instant::now();
    let passed = first + burst(&mut client, 30);
    let most = 2 * (1 + start.elapsed().as_secs().div_ceil(TIME.as_secs()));
    assert!((2..=most as usize).contains(&passed), "{passed} calls");
}

/// What the demonstration's own server is configured with, by the day.
const LIMITS: &str = "
domain: production
descriptors:
- {key: method, value: sayHello, rate_limit: {unit: day, requests_per_unit: 5}}
";

#[test]
fn all_servers_together_take_what_the_rate_limit_service_says() {
    const NAME: &str = "limiter";
    let demos = ["rate-limit-server_rate-limit-server", "metarouter-global-ratelimit"];
    let [Some(server), Some(demo)] = demos.map(|name| demo(&format!("metaprotocol-dubbo--{name}"))) else {
        return;
    };
    let mut stage = stage::take();
    let _servers = serve(&mut stage);
    stage.apply(&server);
    stage.mesh.start_pods([Workload::new(NAMESPACE, NAME).label("app", "rate-limit-server")]);
    Limiter::build();
    let pod = stage.mesh.pod(NAMESPACE, NAME);
    let limiter = pod.enter(|| Limiter::start(LIMITS, SocketAddr::from((pod.address(), 8081))));
    apply(&mut stage, &demo, INTERFACE.1, |service| service["globalRateLimits"].is_array());
    // Envoy's workers learn of the plan one after the other.
    let mut clients = eventually("both servers ask", || {
        let mut clients = [(); 2].map(|()| stage.connect(INTERFACE.0));
        let refusal = "over the rate limit of the domain production";
        let passed = clients.each_mut().map(|client| passed(client, 50, refusal));
        (passed == [0, 0]).then_some(clients)
    });
    eventually("both servers take what nobody counts", || {
        (count(50, || clients[0].ask("other", "x")).len() == 2).then_some(())
    });
    let counted = |outcome: &str| {
        let name = format!("^wasmcustom.meltemi.*outcome=.={outcome};.*rate_limit_answers_total");
        let pods = SERVERS.map(|name| stage.mesh.pod(NAMESPACE, name));
        pods.map(|pod| pod.admin(|admin| admin.sum(&name)).unwrap()).iter().sum::<u64>()
    };
    // The demonstration leaves 100 ms to decide, and a busy machine may take more.
    eventually("what passed is counted", || {
        let [passed, late] = ["ok", "deadline"].map(counted);
        assert!(passed <= 5, "{passed}");
        (passed + late >= 5).then_some(())
    });
    drop(limiter);
    stage.mesh.kill_pod(NAMESPACE, NAME);
}
