//! `meltemi top`, once and in a terminal, with calls through real Envoys.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use meltemi_tests::dubbo::INTERFACE;
use meltemi_tests::{Action, Backend, Client, Proxy, Setup, Traffic, each_envoy, eventually, signal};
use serde_json::{Value, json};

const MELTEMI: &str = env!("CARGO_BIN_EXE_meltemi-under-test");

fn start(envoy: &meltemi_tests::Envoy, servers: [&Backend; 2]) -> Proxy {
    let service = json!({"protocol": "dubbo", "defaultRoute": {
        "cluster": "v1", "retry": {"attempts": 1, "on": ["status"], "statuses": [100]},
    }});
    Setup::new().servers(servers[0].address(), servers[1].address()).service(&service).start(envoy)
}

/// `meltemi top` at the beginning of its interval, which it has begun when its first question is answered.
fn begun(proxy: &Proxy, arguments: &[&str]) -> Child {
    let asked = || proxy.stat(r"^http\.admin\.downstream_rq_2xx$");
    let mut before = asked();
    let child = Command::new(MELTEMI)
        .args(["top", "--admin", &proxy.admin().to_string()])
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the first question is answered", || {
        let now = asked();
        // One is this question.
        let is_more = now > before + 1;
        before = now;
        is_more.then_some(())
    });
    child
}

fn rows(output: &Output) -> Vec<Value> {
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    told["rows"].as_array().unwrap().clone()
}

#[test]
fn rates_of_an_interval_are_told() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = start(envoy, [&v1, &v2]);
        let mut client = Client::connect(proxy.meltemi());
        // Methods have names once they were answered with success; what was before is of no interval.
        for method in ["busy", "sayHello"] {
            client.ask(method, "x");
        }
        eventually("they are counted", || {
            (proxy.metric("meltemi_latency_microseconds_count", &[]) == 2).then_some(())
        });
        v1.on("busy", Action::Status(100, "busy".to_owned()));
        let child = begun(&proxy, &["--once", "--interval", "5", "--by", "methods", "--output", "json"]);
        for _ in 0..40 {
            client.ask("sayHello", "x");
        }
        for _ in 0..10 {
            client.call("busy", "x");
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let rows = rows(&output);
        let [hello, busy] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!([&hello["service"], &hello["method"], &busy["method"]], [INTERFACE, "sayHello", "busy"]);
        let number =
            |row: &Value, name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row}"));
        let rate = number(hello, "requestsPerSecond");
        // The interval is as long as asked for, or longer on a busy machine.
        assert!((3.0..=8.1).contains(&rate), "40 calls in 5 s: {rate}");
        let share = |row: &Value, name: &str| number(row, name) / rate;
        assert!((share(busy, "requestsPerSecond") - 0.25).abs() < 1e-9, "{busy}");
        assert!((share(busy, "retriesPerSecond") - 0.25).abs() < 1e-9, "{busy}");
        assert_eq!((number(hello, "success"), number(busy, "success")), (1.0, 0.0));
        let [p50, p95, p99] = ["p50Micros", "p95Micros", "p99Micros"].map(|name| number(hello, name));
        assert!(0.0 < p50 && p50 <= p95 && p95 <= p99, "{hello}");
        assert_eq!(hello["inFlight"], 0);
    });
}

#[test]
fn what_does_not_answer_is_shown_beside_what_does() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = start(envoy, [&v1, &v2]);
        let traffic = Traffic::start(proxy.meltemi(), 2, 1);
        traffic.wait_for_answers(10);
        // No terminal: it ends by itself.
        let output = begun(&proxy, &["--admin", "127.0.0.1:1", "--by", "proxies", "--interval", "3"])
            .wait_with_output()
            .unwrap();
        traffic.finish();
        let (told, said) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(output.status.success(), "{said}");
        assert_eq!(lines[0][..3], ["PROXY", "REQ/S", "SUCCESS"], "{told}");
        assert_eq!(lines[1][0], proxy.admin().to_string(), "{told}");
        assert!(lines[1][1].parse::<f64>().unwrap() > 0.0 && lines[1][2] == "100.0", "{told}");
        assert_eq!(lines[2][..2], ["127.0.0.1:1", "-"], "{told}");
        assert!(said.contains("127.0.0.1:1: nothing answers"), "{said}");

        let output = Command::new(MELTEMI)
            .args(["top", "--once", "--interval", "0.5", "--admin", "127.0.0.1:1"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "nobody answers: {output:?}");
    });
}

/// `meltemi top` in a terminal of 140 columns, and afterwards what became of that.
struct Terminal {
    script: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    all: Arc<Mutex<Vec<u8>>>,
}

fn size(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).unwrap()
}

impl Terminal {
    fn start(proxy: &Proxy) -> Self {
        let run = format!(
            "stty cols 140 rows 24; {MELTEMI} top --interval 0.5 --admin {}; echo code $?; stty -a | \
             grep -ow -e '-*icanon' -e '-*echo'; echo ended",
            proxy.admin()
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--command", &run, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(24), size(140), 0)));
        let all = Arc::new(Mutex::new(Vec::new()));
        let mut output = script.stdout.take().unwrap();
        let (draws, keeps) = (screen.clone(), all.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                draws.lock().unwrap().process(&bytes[..count]);
                keeps.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { script, screen, all }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.script.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until all of this is to be seen.
    fn shows(&self, texts: &[&str]) -> String {
        eventually(&format!("{texts:?} is seen"), || {
            let shown = self.screen.lock().unwrap().screen().contents();
            texts.iter().all(|text| shown.contains(text)).then_some(shown)
        })
    }

    /// Waits for its end, and sees that the terminal is as it was.
    fn ended(mut self) {
        eventually("the command ends", || {
            let all = String::from_utf8_lossy(&self.all.lock().unwrap()).into_owned();
            all.contains("ended").then(|| {
                assert!(all.contains("code 0"), "{all:?}");
                let (_, after) = all.rsplit_once("\u{1b}[?1049l").expect("the other screen is left");
                let words: Vec<&str> = after.split_whitespace().collect();
                assert!(words.contains(&"icanon") && words.contains(&"echo"), "{after:?}");
            })
        });
        drop(self.script.stdin.take());
        self.script.wait().unwrap();
    }
}

#[test]
fn keys_sort_filter_and_go_into_what_is_shown() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = start(envoy, [&v1, &v2]);
        let mut client = Client::connect(proxy.meltemi());
        client.ask("otherCall", "x");
        let traffic = Traffic::start(proxy.meltemi(), 2, 1);
        traffic.wait_for_answers(10);
        let mut terminal = Terminal::start(&proxy);
        let shown = terminal.shows(&["meltemi top", "services by REQ/S", INTERFACE, "100.0 %"]);
        assert!(!shown.contains("sayHello"), "{shown}");
        terminal.press("\r");
        terminal.shows(&["methods by REQ/S", &format!("of {INTERFACE}"), "sayHello", "otherCall"]);
        terminal.press("/other\r");
        let shown = eventually("what is filtered is gone", || {
            let shown = terminal.shows(&["/other", "otherCall"]);
            (!shown.contains("sayHello")).then_some(shown)
        });
        assert!(shown.contains("0.0"), "{shown}");
        terminal.press("/\u{1b}");
        terminal.shows(&["sayHello", "otherCall"]);
        terminal.press("s");
        terminal.shows(&["methods by SUCCESS"]);
        terminal.press("sr");
        terminal.shows(&["methods by P50, smallest first"]);
        terminal.press("\u{7f}");
        terminal.shows(&["services by P50"]);
        terminal.press("p");
        terminal.shows(&["PAUSED"]);
        terminal.press("p\t\t\t\t");
        terminal.shows(&["proxies by", &proxy.admin().to_string()]);
        terminal.press("q");
        terminal.ended();
        traffic.finish();
    });
}

#[test]
fn the_terminal_is_left_as_it_was() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = start(envoy, [&v1, &v2]);
        let mut terminal = Terminal::start(&proxy);
        terminal.shows(&["meltemi top"]);
        terminal.press("\u{3}");
        terminal.ended();

        let terminal = Terminal::start(&proxy);
        terminal.shows(&["meltemi top", "1 proxies"]);
        let of = format!("top --interval 0.5 --admin {}", proxy.admin());
        let process = eventually("its process is found", || process_with(&of));
        signal(process, "TERM");
        terminal.ended();

        // An Envoy that goes away is shown, and not the end.
        let mut terminal = Terminal::start(&proxy);
        terminal.shows(&["meltemi top"]);
        signal(proxy.process(), "KILL");
        terminal.shows(&["1 down", "nothing answers at"]);
        terminal.press("q");
        terminal.ended();
    });
}

/// The process of this command whose arguments end so.
fn process_with(arguments: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        words.first().is_some_and(|program| *program == MELTEMI.as_bytes())
            && words[1..].join(&b' ') == arguments.as_bytes()
    })
}
