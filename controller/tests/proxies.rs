//! What the commands that ask proxies make of one that says anything.

use assert_cmd::Command;
use axum::Router;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What steers a terminal, or turns the direction of what follows.
const ODD: &str = "\u{1b}[2J\u{7f}\u{9b}2J\u{202e}";

/// An admin interface that says this, for as long as the runtime is there.
fn serve(runtime: &Runtime, dump: String, stats: String) -> String {
    runtime.block_on(async {
        let router = Router::new()
            .route("/config_dump", get(|| async { dump }))
            .route("/stats", get(|| async { stats }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(axum::serve(listener, router).into_future());
        address
    })
}

#[test]
fn nothing_that_a_proxy_says_steers_a_terminal() {
    let entry = json!({"protocols": [ODD], "defaultRoute": {"cluster": ODD, "timeout": ODD}, ODD: 1});
    let plan = json!({"services": {ODD: entry, "other": {"protocol": ODD}}});
    let config = json!({
        "name": ODD,
        "configuration": {"value": plan.to_string()},
        "vm_config": {"code": {"local": {"filename": ODD}}},
    });
    let extension = json!({"name": format!("meltemi.{ODD}"), "typed_config": {"config": config}});
    let dump = json!({"configs": [{"version_info": ODD, "last_updated": ODD, "ecds_filter": extension}]})
        .to_string();
    let stats = format!("wasmcustom.meltemi.service=.={ODD};.;method=.={ODD};.;requests_total: 1\n");
    let runtime = Runtime::new().unwrap();
    let admin = serve(&runtime, dump, stats);
    for (command, more) in
        [("top", &["--interval", "0.5", "--by", "methods"][..]), ("proxy-status", &[]), ("proxy-config", &[])]
    {
        for form in ["table", "json"] {
            let output = Command::new(env!("CARGO_BIN_EXE_meltemi"))
                .args([command, "--output", form, "--admin", &admin])
                .args(more)
                .output()
                .unwrap();
            let told = String::from_utf8(output.stdout).unwrap();
            assert!(told.contains("2J"), "{command}: {told:?}");
            assert!(!told.contains(['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}']), "{command} {form}: {told:?}");
        }
    }
}
