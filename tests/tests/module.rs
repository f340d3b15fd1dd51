//! The module itself: small, and at home in every Envoy.

use std::fs;

use meltemi_tests::{Backend, Client, Setup, each_envoy, files};
use wasmparser::{Import, Parser, Payload};

/// In bytes. Envoy's agents fetch the module for every pod.
const LARGEST: usize = 900_000;

/// What Envoy's Wasm host implements of WASI, apart from its stubs for files.
const WASI: [&str; 13] = [
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_read",
    "fd_seek",
    "fd_write",
    "proc_exit",
    "random_get",
    "sched_yield",
];

#[test]
fn the_module_is_small_and_imports_only_what_envoy_has() {
    let bytes = fs::read(files::module()).unwrap();
    println!("{} bytes", bytes.len());
    assert!(bytes.len() <= LARGEST, "{} bytes of {LARGEST}", bytes.len());

    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        if let Payload::ImportSection(section) = payload.unwrap() {
            imports.extend(section.into_imports().map(Result::unwrap));
        }
    }
    let is_known = |import: &Import| match import.module {
        "env" => import.name.starts_with("proxy_"),
        "wasi_snapshot_preview1" => WASI.contains(&import.name),
        _ => false,
    };
    let unknown: Vec<_> = imports.iter().filter(|import| !is_known(import)).collect();
    assert!(!imports.is_empty() && unknown.is_empty(), "{unknown:?}");
}

/// Otherwise the module says so, and follows the machine's clock.
#[test]
fn every_envoy_has_a_time_that_nobody_sets() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).start(envoy);
        Client::connect(proxy.meltemi()).ask("sayHello", "x");
        let log = proxy.log();
        assert!(log.contains("is now active") && !log.contains("monotonic"), "{log}");
    });
}
