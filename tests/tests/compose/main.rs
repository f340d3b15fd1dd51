//! `docker-compose.yml` without a container engine: Compose reads it, every program that it starts runs here, traffic flows,
//! and Grafana's dashboard finds what it asks Prometheus for.

mod containers;
mod dashboard;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use meltemi::envoy::{self, Admin, Config};
use meltemi::sample::Call;
use meltemi::{checkout, module};
use serde_json::Value;
use ureq::RequestBuilder;
use ureq::typestate::WithoutBody;

use containers::Containers;
use dashboard::Dashboard;

/// How long anything may take before the test gives up on it. Far above what is normal, for busy machines.
const DEADLINE: Duration = Duration::from_secs(120);

/// Metrics that Envoy has here no reason to count: identities are known with mutual TLS only, and the plan edits nothing
/// and has neither faults, mirrors nor global rate limits, and no adaptive concurrency, nor a collector of spans or a logger. It is enough that Prometheus understands the expressions with them.
const ELSEWHERE: [&str; 12] = [
    "meltemi_source_requests_total",
    "meltemi_destination_requests_total",
    "meltemi_edits_skipped_total",
    "meltemi_delays_total",
    "meltemi_mirrored_total",
    "meltemi_dry_run_denied_total",
    "meltemi_rate_limit_answers_total",
    "meltemi_hedges_total",
    "meltemi_concurrency_blocked_total",
    "meltemi_concurrency_limit",
    "meltemi_spans_total",
    "meltemi_log_entries_total",
];

/// Asks `condition` again and again until it gives something.
fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(100));
    }
}

/// Prometheus, asked over HTTP.
struct Prometheus(String);

impl Prometheus {
    fn get(&self, path: &str) -> RequestBuilder<WithoutBody> {
        let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build();
        ureq::Agent::from(config).get(format!("http://{}/api/v1/{path}", self.0))
    }

    /// The series that `expression` gives now.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let request = self.get("query");
        let mut answer = request.query("query", expression).call().map_err(|error| error.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        match answer["data"]["result"].as_array() {
            Some(series) if answer["status"] == "success" => Ok(series.clone()),
            _ => Err(format!("{expression}: {text}")),
        }
    }

    /// Whether it has a rule of that name.
    fn has_rule(&self, name: &str) -> bool {
        let mut answer = self.get("rules").call().unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.into_iter().any(|rule| rule["name"] == name)
    }

    /// The sum of what `expression` gives; nothing if it gives nothing.
    fn sum(&self, expression: &str) -> Option<f64> {
        let series = self.query(expression).ok()?;
        let value = series.first()?["value"][1].as_str()?;
        value.parse().ok()
    }
}

/// Makes a call that nobody answers, and leaves.
fn leave(address: SocketAddr) {
    // A heartbeat (magic, two-way event, no status, id, length; null in Hessian) is answered at once. Whoever leaves with an
    // answer unread resets the connection; otherwise there might still be somebody who reads.
    let mut bytes = b"\xda\xbb\xe2\0\0\0\0\0\0\0\0\x01\0\0\0\x01N".to_vec();
    Call::new("sayHello", "nobody").write(2, &mut bytes);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(&bytes).unwrap();
    assert!(client.peek(&mut [0]).unwrap() > 0);
}

/// Everything starts by the commands of `docker-compose.yml`; then the servers hang and die, which gives all that a dashboard
/// can show.
#[test]
fn traffic_flows_and_every_panel_has_data() {
    let mut containers = Containers::load();

    let module = module::find(None, &ProgressBar::hidden()).unwrap();
    containers.run("module", "cp", &[("/usr/local/share/meltemi/meltemi.wasm", &module)]);

    let meltemi = Path::new(env!("CARGO_BIN_EXE_meltemi-under-test"));
    containers.start("v1", meltemi);
    containers.start("v2", meltemi);

    // Names of containers are no names here: one more step makes addresses of them.
    let sed = containers.path("envoy", "/meltemi/deploy/envoy.sed");
    let mut script = fs::read_to_string(&sed).unwrap();
    for name in ["v1", "v2"] {
        script += &format!("s/address: {name},/address: {},/\n", containers.address(name));
    }
    script += &format!("s/0\\.0\\.0\\.0/{}/\n", containers.address("envoy"));
    fs::remove_file(&sed).unwrap();
    fs::write(&sed, script).unwrap();
    let binary = envoy::find(None, &checkout::envoy_store(), &ProgressBar::hidden()).unwrap();
    containers.start_in_shell("envoy", binary.parent().unwrap());
    let admin = Admin::new(format!("{}:15000", containers.address("envoy")).parse().unwrap());
    eventually("Envoy is ready", || admin.ready().then_some(()));

    let config = containers.path("prometheus", "/etc/prometheus/prometheus.yml");
    let checked = Command::new("promtool").arg("check").arg("config").arg(&config).output();
    let checked = checked
        .unwrap_or_else(|error| panic!("promtool: {error}; install it with `apt-get install prometheus`"));
    assert!(checked.status.success(), "{checked:?}");
    let text = fs::read_to_string(&config).unwrap();
    // Often enough for rates within the test's time.
    let text =
        containers.resolve("prometheus", &text).replace("scrape_interval: 5s", "scrape_interval: 500ms");
    let prometheus = Prometheus(format!("{}:9090", containers.address("prometheus")));
    containers.start_prometheus(&text, &prometheus.0);
    containers.start("client", meltemi);

    let both_answer = |containers: &Containers| {
        let told = containers.output("client");
        told.lines().any(|line| line.contains("calls: v1 ") && line.contains(", v2 ")).then_some(())
    };
    eventually("both servers answer", || both_answer(&containers));
    let in_flight = || prometheus.sum("sum(meltemi_in_flight)");
    containers.signal("v1", "STOP");
    containers.signal("v2", "STOP");
    eventually("calls hang", || (in_flight()? >= 4.0).then_some(()));
    containers.signal("v2", "KILL");
    eventually("calls that were lost are tried again", || {
        (prometheus.sum("sum(meltemi_retries_total)")? >= 1.0).then_some(())
    });
    eventually("calls run out of time", || {
        prometheus.sum(r#"sum(meltemi_local_replies_total{reason="timeout"})"#)
    });
    let address = (containers.address("envoy"), 20880).into();
    leave(address);
    TcpStream::connect(address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    eventually("nobody waits for a call", || prometheus.sum("sum(meltemi_cancelled_total)"));
    containers.signal("client", "KILL");
    containers.signal("v1", "CONT");
    containers.start("v2", meltemi);
    containers.start("client", meltemi);

    let dashboard = Dashboard::load();
    for (panel, expression) in dashboard.expressions() {
        let elsewhere = ELSEWHERE.iter().any(|name| expression.contains(name));
        eventually(&format!("{panel} has data: {expression}"), || {
            let series = prometheus.query(&expression).unwrap();
            (elsewhere || series.iter().any(|series| series["value"][1] != "NaN")).then_some(())
        });
    }
    eventually("both servers answer again", || both_answer(&containers));
    eventually("Prometheus reads Envoy's metrics", || {
        prometheus.sum(r#"up{job="envoy"}"#).filter(|up| *up == 1.0)
    });
    assert!(prometheus.has_rule("MeltemiCallsTimeOut"), "Prometheus has the rules for alerts");
}

#[test]
fn the_configuration_is_the_shipped_one_elsewhere() {
    let sed = Command::new("sed")
        .args(["-f", "deploy/envoy.sed", "envoy-configs/dubbo.yaml"])
        .current_dir(checkout::root().unwrap())
        .output()
        .unwrap();
    assert!(sed.status.success(), "{sed:?}");
    let config = Config::parse("envoy.yaml", std::str::from_utf8(&sed.stdout).unwrap()).unwrap();
    assert_eq!(config.listen_ports(), [20880, 20890, 20870, 15000]);
    let mut addresses = Vec::new();
    collect(config.value(), &mut addresses);
    addresses.sort_unstable();
    let everybody = [15000, 20870, 20880, 20890].map(|port| ("0.0.0.0".to_owned(), port));
    let servers =
        ["v1", "v1", "v2", "v2"].map(|name| (name.to_owned(), if name == "v1" { 20881 } else { 20882 }));
    assert_eq!(addresses, [everybody, servers].concat());
    let clusters = config.value()["static_resources"]["clusters"].as_array().unwrap();
    let by_name = clusters.iter().filter(|cluster| cluster["type"] == "STRICT_DNS");
    assert_eq!(by_name.map(|cluster| &cluster["name"]).collect::<Vec<_>>(), ["v1", "v2", "demo"]);
}

#[test]
fn the_image_has_what_the_services_use() {
    let image = fs::read_to_string(checkout::root().unwrap().join("deploy/Dockerfile")).unwrap();
    for line in [
        r#"ENTRYPOINT ["meltemi"]"#,
        "ENV MELTEMI_MODULE=/usr/local/share/meltemi/meltemi.wasm",
        "COPY --from=build /meltemi/target/wasm32-wasip1/module/meltemi.wasm /usr/local/share/meltemi/",
    ] {
        assert!(image.lines().any(|known| known == line), "{line}");
    }
}

/// Every socket address in `value`.
fn collect(value: &Value, addresses: &mut Vec<(String, u64)>) {
    if let Some(address) = value.get("socket_address") {
        addresses
            .push((address["address"].as_str().unwrap().to_owned(), address["port_value"].as_u64().unwrap()));
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, addresses)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, addresses)),
        _ => {}
    }
}
