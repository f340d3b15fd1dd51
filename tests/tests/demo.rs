//! `meltemi demo` from end to end: a real Envoy, the module as it is built, the sample servers.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use meltemi::checkout;
use meltemi::decode::{self, MAX_FRAME_BYTES};
use meltemi::envoy::{self, DEFAULT_VERSION};
use meltemi_codecs::Dubbo;
use meltemi_tests::signal;
use serde_json::Value;

/// Each title, and the statements under it.
const STEPS: [(&str, &[&str]); 6] = [
    (
        "1. Every request is balanced on its own, on one client connection",
        &["every call was answered", "both servers got their share of one connection"],
    ),
    (
        "2. Calls are routed by method and by attachment",
        &[
            "the method took its calls to v1",
            "the attachment took its calls to v2",
            "all others are balanced as before",
        ],
    ),
    (
        "3. A share of the calls goes to a new version",
        &["every call was answered", "v2 got a tenth of them, as far as chance goes"],
    ),
    (
        "4. The plan is changed while calls are made, and open connections follow",
        &["the calls moved from v1 to v2", "no call was lost", "the client's connection, from 127.0.0.1:"],
    ),
    (
        "5. A server dies under load, and every call is answered",
        &[
            "calls were lost with the server",
            "every call was answered, and by a server",
            "Envoy's metrics show the retries",
        ],
    ),
    (
        "6. A call that no route matches is answered with an error of Dubbo's own",
        &[
            "the client got SERVICE_NOT_FOUND, which Dubbo makes an exception of",
            "the connection serves the next call",
        ],
    ),
];

/// One demo at a time: each takes the same ports if they are free.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meltemi-under-test"));
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_statement_holds() {
    let _turn = turn();
    let (code, output, error) = run(demo(&[]));
    let told = format!("{output}\n{error}");
    assert_eq!(code, 0, "{told}");
    let mut lines = output.lines();
    for (title, statements) in STEPS {
        assert!(lines.any(|line| line == title), "no title {title:?}, or out of its turn:\n{told}");
        for statement in statements {
            let mark = format!("  ✓ {statement}");
            assert!(lines.any(|line| line.starts_with(&mark)), "not told: {statement:?}\n{told}");
        }
    }
    assert!(lines.any(|line| line == "All 15 checks passed."), "{told}");
    assert!(!told.contains('✗') && !told.contains('\x1b'), "{told}");
    assert!(output.contains(r#""status":"SERVICE_NOT_FOUND""#), "{told}");
}

/// A demo that is left running, killed at the end of the test whatever comes.
struct Kept {
    demo: Child,
    /// What it printed about itself, by name.
    about: Vec<(String, String)>,
}

impl Kept {
    fn start() -> Self {
        let mut demo = demo(&["--keep"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("Running")), "the demo ended");
        let split = |line: String| {
            // Two columns, indented by two.
            let (name, value) = line.split_at_checked(2 + 11).unwrap_or_default();
            (name.trim().to_owned(), value.trim().to_owned())
        };
        let mut about = Vec::new();
        for line in lines {
            about.push(split(line));
            if about.last().is_some_and(|(_, value)| value.starts_with("meltemi decode")) {
                break;
            }
        }
        Self { demo, about }
    }

    fn about(&self, name: &str) -> &str {
        &self
            .about
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name}: {:?}", self.about))
            .1
    }

    fn children(&self) -> Vec<u32> {
        let id = self.demo.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.demo.kill();
        let _ = self.demo.wait();
    }
}

#[test]
fn a_kept_demo_can_be_called_and_leaves_nothing_behind() {
    let _turn = turn();
    let mut kept = Kept::start();
    let plan = Path::new(kept.about("plan")).to_owned();
    assert!(fs::read_to_string(&plan).unwrap().contains("canary"), "the shipped plan is restored");

    // nc -w 1 <ip> <port> < <file> |
    let words: Vec<&str> = kept.about("call it").split_whitespace().collect();
    let ["nc", "-w", "1", ip, port, "<", file, ..] = words[..] else { panic!("{words:?}") };
    let mut client = TcpStream::connect((ip, port.parse().unwrap())).unwrap();
    client.write_all(&fs::read(file).unwrap()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut output = Vec::new();
    decode::decode(&Dubbo, MAX_FRAME_BYTES, client, &mut output).unwrap();
    let answer: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(answer["status"], "OK");
    assert!(answer["attachments"]["served-by"].is_string(), "{answer}");

    let [envoy] = kept.children()[..] else { panic!("{:?}", kept.children()) };
    signal(kept.demo.id(), "INT");
    assert_eq!(kept.demo.wait().unwrap().code(), Some(0));
    assert!(!Path::new(&format!("/proc/{envoy}")).exists(), "Envoy outlived the demo");
    assert!(!plan.parent().unwrap().exists(), "the folder of the run was left");
}

#[test]
fn what_cannot_run_is_told_in_one_line() {
    let _turn = turn();
    let fails = |command: Command, expected: &str| {
        let (code, output, error) = run(command);
        assert_eq!(code, 1, "{output}\n{error}");
        let told = error.lines().last().unwrap_or_default();
        assert!(told.starts_with("error: ") && told.contains(expected), "{error}");
    };
    fails(
        demo(&["--module", "/no/such.wasm"]),
        "there is no module /no/such.wasm; name a file with --module",
    );

    let with = |name: &str, value: &OsStr| {
        let mut command = demo(&[]);
        command.env(name, value);
        command
    };
    fails(with("MELTEMI_MODULE", "/no/such.wasm".as_ref()), "there is no module /no/such.wasm");
    fails(with("MELTEMI_ENVOY", "/no/such/envoy".as_ref()), "MELTEMI_ENVOY names /no/such/envoy");

    // Something that is there, but is no module.
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("not.wasm");
    File::create(&module).unwrap();
    let mut command = demo(&["--module"]);
    command.arg(&module).env("CARGO_TARGET_DIR", folder.path());
    let envoy = envoy::fetch(DEFAULT_VERSION, &checkout::envoy_store(), &ProgressBar::hidden()).unwrap();
    command.env("MELTEMI_ENVOY", envoy);
    fails(command, &format!("Envoy refused {}", module.display()));
}
