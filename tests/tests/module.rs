//! The module itself: small, and at home in every Envoy.

use std::fs;

use meltemi_codecs::thrift::{Protocol, Transport};
use meltemi_tests::{Backend, Client, Setup, each_envoy, eventually, files, thrift};
use serde_json::json;
use wasmparser::{Import, Parser, Payload};

/// In bytes. Envoy's agents fetch the module for every pod.
const LARGEST: usize = 980_000;

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

#[test]
fn a_build_with_a_chosen_codec_is_smaller_and_refuses_plans_for_others() {
    let module = files::module_with("thrift");
    let [all, chosen] = [files::module(), &*module].map(|module| fs::metadata(module).unwrap().len());
    println!("{chosen} bytes with Thrift alone, {all} with all codecs");
    assert!(chosen + 50_000 < all, "{chosen} bytes of {all}");
    each_envoy(|envoy| {
        let server = thrift::Server::start("greeter");
        let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "greeters"}});
        let setup = Setup::new().cluster("greeters", &[server.address()]).service(&service);
        let mut proxy = setup.build(module.clone()).start(envoy);
        let mut client = thrift::Client::connect(proxy.meltemi());
        let mut greet =
            |id| client.ask(&thrift::call((Transport::Framed, Protocol::Binary), id, "greet", "x"));
        assert_eq!(greet(1), thrift::answer("greeter", "x"));
        proxy.update_service(&json!({"protocol": "dubbo"}));
        let refusal = "services[\"demo\"].protocol: unknown protocol \"dubbo\"; this module knows \"thrift\"";
        eventually("the plan is refused", || proxy.log().contains(refusal).then_some(()));
        assert_eq!(greet(2), thrift::answer("greeter", "x"));
    });
}
