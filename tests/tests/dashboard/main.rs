//! `meltemi dashboard` in a real browser, with calls through real Envoys.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use meltemi_tests::browser::{Browser, ENTER};
use meltemi_tests::dubbo::INTERFACE;
use meltemi_tests::{
    Action, Backend, Client, DEADLINE, Proxy, Setup, Traffic, each_envoy, eventually, signal,
};
use serde_json::json;

/// The command, serving the page for one Envoy.
struct Dashboard {
    process: Child,
    url: String,
}

impl Dashboard {
    fn start(admins: &[SocketAddr]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_meltemi-under-test"))
            .args(["dashboard", "--listen", "127.0.0.1:0", "--interval", "0.5"])
            .args(admins.iter().flat_map(|admin| ["--admin".to_owned(), admin.to_string()]))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }

    fn view(&self, name: &str) -> String {
        format!("{}#/{name}", self.url)
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(envoy: &meltemi_tests::Envoy, servers: [&Backend; 2]) -> Proxy {
    let service = json!({
        "protocol": "dubbo",
        "routes": [{
            "name": "canary", "match": [{"attributes": {"method": {"exact": "busy"}}}], "cluster": "v1", "timeout": "20s",
        }],
        "defaultRoute": {"weightedClusters": [{"cluster": "v1", "weight": 3}, {"cluster": "v2", "weight": 1}]},
    });
    Setup::new().servers(servers[0].address(), servers[1].address()).service(&service).start(envoy)
}

#[test]
fn calls_are_seen_as_they_go() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("busy", Action::Status(100, "busy".to_owned()));
        let proxy = start(envoy, [&v1, &v2]);
        let mut client = Client::connect(proxy.meltemi());
        client.ask("otherCall", "x");
        let traffic = Traffic::start(proxy.meltemi(), 2, 1);
        traffic.wait_for_answers(10);
        let dashboard = Dashboard::start(&[proxy.admin()]);
        let browser = Browser::start();
        browser.go(&dashboard.url);
        browser.shows(&[INTERFACE, "1 proxy.", "100.0 %"]);
        // A screen reader is told of what is new, not of each look.
        let watch = "window.told = []; window.looks = 0;
            const count = (id, add) => new MutationObserver(add).observe(document.getElementById(id), { childList: true, characterData: true, subtree: true });
            count('state', () => told.push(document.getElementById('state').textContent));
            count('now', () => { looks += 1; });";
        browser.run(watch);
        eventually("the page is drawn anew", || {
            (browser.run("return looks").as_u64() > Some(2)).then_some(())
        });
        assert_eq!(browser.run("return told"), json!([]));
        assert_eq!(browser.accessible("#state"), [("status".to_owned(), String::new())]);

        // By keys alone into the service, whose pictures have words.
        browser.tab_to(INTERFACE);
        browser.press(ENTER);
        browser.shows(&["Calls by method", "sayHello", "otherCall"]);
        eventually("pictures say what they show", || {
            let pictures = browser.accessible("figure svg[role=img]");
            let says =
                |part: &str| pictures.iter().any(|(role, name)| role == "image" && name.contains(part));
            (says("Requests a second, now: requests ") && says("p99 ") && says("most answers take at most "))
                .then_some(())
        });
        eventually("a method heads its row", || {
            let heads = browser.accessible("tbody th");
            heads.contains(&("rowheader".to_owned(), "sayHello".to_owned())).then_some(())
        });
        // What has not changed stays as it is, for who reads it.
        browser.run("document.querySelector('tbody th').isRead = true");
        eventually("there is a past to draw", || {
            let points = browser.run("return document.querySelectorAll('svg .heat').length");
            (points.as_u64() > Some(40)).then_some(())
        });
        assert_eq!(browser.run("return document.querySelector('tbody th').isRead"), true);
        browser.is_pictured("dashboard-service");
        browser.prefer("dark");
        let dark = browser.run("return getComputedStyle(document.body).backgroundColor");
        browser.prefer("light");
        assert_ne!(browser.run("return getComputedStyle(document.body).backgroundColor"), dark);

        // What names no view shows the first.
        for odd in ["%", "constructor", "service/%ff", "none/x"] {
            browser.go(&dashboard.view(odd));
            browser.shows(&["Calls by RPC service"]);
        }

        // What is typed finds, while the page draws itself anew.
        browser.go(&dashboard.url);
        browser.shows(&[INTERFACE]);
        browser.run("document.querySelector('main input').focus()");
        browser.press("nothing");
        browser.shows(&["no call was counted"]);
        assert_eq!(browser.run("return document.activeElement.value"), "nothing");
        traffic.finish();
        assert_eq!(browser.complaints(), Vec::<String>::new());
    });
}

#[test]
fn routes_endpoints_and_plans_are_shown() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let mut proxy = start(envoy, [&v1, &v2]);
        let mut client = Client::connect(proxy.meltemi());
        for method in ["busy", "sayHello"] {
            client.ask(method, "x");
        }
        let dashboard = Dashboard::start(&[proxy.admin()]);
        let browser = Browser::start();
        browser.go(&dashboard.view("routes"));
        browser.shows(&["demo", "dubbo"]);
        browser.tab_to("demo");
        browser.press(ENTER);
        let shown =
            browser.shows(&["canary", "method is busy", "timeout: \"20s\"", "all others", "v1 3, v2 1"]);
        assert!(shown.find("canary") < shown.find("all others"), "{shown}");
        eventually("three of four calls take the route", || {
            for method in ["busy", "busy", "busy", "sayHello"].repeat(5) {
                client.ask(method, "x");
            }
            let shown = browser.text();
            let share = shown.lines().find(|line| line.contains("canary"))?.rsplit_once('\t')?.1.trim();
            let share: f64 = share.strip_suffix(" %")?.parse().ok()?;
            (70.0..=80.0).contains(&share).then_some(())
        });
        browser.is_pictured("dashboard-routes");
        // Attributes and names are shown as they are, also one that all objects of JavaScript have.
        let name = "<img src=x onerror=alert(1)>";
        proxy.update_service(&json!({"protocol": "dubbo", "routes": [{
            "name": "constructor", "match": [{"attributes": {"user": {"exact": name}}}], "cluster": "v2",
        }]}));
        browser.shows(&[&format!("user is {name}")]);

        browser.go(&dashboard.view("endpoints"));
        let shown = browser.shows(&[&v2.address().to_string(), "healthy"]);
        assert!(!shown.contains("internal"), "{shown}");
        browser.go(&dashboard.view("proxies"));
        browser.shows(&[&proxy.admin().to_string(), "in force", env!("CARGO_PKG_VERSION")]);
        proxy.update_service(&json!({"protocol": "dubbo", "timeuot": "1s"}));
        browser.shows(&["refused", "timeuot"]);
        browser.go(&dashboard.view("resources"));
        browser.shows(&["their plans are files"]);
        browser.go(&dashboard.view("calls"));
        browser.shows(&["no proxy of a server knows a client"]);
        assert_eq!(browser.complaints(), Vec::<String>::new());
    });
}

#[test]
fn what_does_not_answer_is_said() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = start(envoy, [&v1, &v2]);
        let mut dashboard = Dashboard::start(&[proxy.admin(), "127.0.0.1:1".parse().unwrap()]);
        let browser = Browser::start();
        browser.go(&dashboard.url);
        browser.shows(&["2 proxies, 1 not answering (127.0.0.1:1: nothing answers at"]);
        signal(proxy.process(), "KILL");
        browser.shows(&["2 not answering"]);
        browser.go(&dashboard.view("proxies"));
        browser.shows(&["unreachable"]);
        dashboard.process.kill().unwrap();
        browser.shows(&["meltemi dashboard does not answer"]);
    });
}

#[test]
fn a_page_from_elsewhere_sees_nothing() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = start(envoy, [&v1, &v2]);
        let dashboard = Dashboard::start(&[proxy.admin()]);
        let agent = ureq::Agent::new_with_config(
            ureq::config::Config::builder()
                .http_status_as_error(false)
                .timeout_global(Some(DEADLINE))
                .build(),
        );
        let ask = |host: &str, path: &str| {
            agent.get(format!("{}{path}", dashboard.url)).header("host", host).call().unwrap()
        };
        assert_eq!(ask("evil.example", "api/overview").status(), 421, "its name may lead here");
        assert_eq!(ask("evil.example", "").status(), 421);
        let answer = ask("localhost:15080", "api/overview");
        assert_eq!(answer.status(), 200);
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "same-origin");
        assert_eq!(ask("localhost", "api/calls/none").status(), 404);
        assert_eq!(ask("localhost", "api/services/none").status(), 404);
        let made = agent.post(format!("{}api/overview", dashboard.url)).send_empty().unwrap();
        assert_eq!(made.status(), 405, "it is for reading");
    });
}
