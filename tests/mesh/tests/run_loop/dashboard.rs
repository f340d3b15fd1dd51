//! The dashboard that the controller serves, to whom the API server lets see it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use meltemi_tests::browser::{Browser, ENTER};
use meltemi_tests::{Envoy, Setup, eventually};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::api::{Api, HOME, MODULE, shared};
use crate::controller::Controller;
use crate::kubelet::Kubelet;
use crate::{install, make_router, make_service, plugin_path, wait_for_objects};

const NAMESPACE: &str = "dashboard";

/// What istiod calls the plan of the namespace's clients.
const PLUGIN: &str = "extensions.istio.io/trafficextension/dashboard.meltemi~istio-translated-wasmplugin";

/// A controller that serves the dashboard, with the rights that this takes, and where it does.
fn start(api: &Api, name: &str) -> (Controller, SocketAddr) {
    install(api, &["--image=registry.example.org/meltemi:0.1", "--module", MODULE, "--dashboard"]);
    let flags = ["--istio-version=1.30", "--dashboard-listen=127.0.0.1:0"];
    let controller = Controller::start_with(api, name, "127.0.0.1:0", &flags);
    let address = controller.dashboard.unwrap();
    eventually("the dashboard is served", || (controller.view("readyz").0 == 200).then_some(()));
    (controller, address)
}

/// A service account of the namespace, and a token of it.
fn viewer(api: &Api, name: &str) -> String {
    api.kubectl(&["create", "serviceaccount", name, "--namespace", NAMESPACE], "").unwrap();
    api.kubectl(&["create", "token", name, "--namespace", NAMESPACE], "").unwrap().trim().to_owned()
}

/// Lets it see the dashboard, by a binding of its name.
fn allow(api: &Api, name: &str) {
    let account = format!("--serviceaccount={NAMESPACE}:{name}");
    let arguments = ["create", "clusterrolebinding", name, "--clusterrole=meltemi-dashboard", &account];
    api.kubectl(&arguments, "").unwrap();
}

/// What `GET path` gives to who trusts what the API server trusts of the controller.
fn get(authorities: &str, address: SocketAddr, path: &str, token: Option<&str>) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), address.ip().into()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    let credentials = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{credentials}\r\n").unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => panic!("{error}"),
        _ => {}
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn viewers_are_those_whom_the_api_server_lets_in() {
    // One of its own, since it goes away for a while.
    let mut api = Api::start("viewers");
    make_service(&api, NAMESPACE);
    let (controller, address) = start(&api, "dashboard-viewers");
    controller.wait_until_leading();
    let template = "go-template={{index .data \"ca.crt\" | base64decode}}";
    let secret = ["get", "secret", "meltemi-webhook", "--namespace", HOME, "--output", template];
    let authorities = api.kubectl(&secret, "").unwrap();
    let ask = |path: &str, token: Option<&str>| get(&authorities, address, path, token);

    let (status, page) = ask("/", None);
    assert!(status == 200 && page.contains("sign-in"), "{status}: {page}");
    for (token, told) in
        [(None, "a token of the API server is needed"), (Some("a"), "does not take the token")]
    {
        let (status, why) = ask("/api/overview", token);
        assert!(status == 401 && why.contains(told), "{status}: {why}");
    }

    let token = viewer(&api, "watcher");
    let overview = || ask("/api/overview", Some(&token));
    let (status, why) = overview();
    let name = "system:serviceaccount:dashboard:watcher may not see the dashboard";
    assert!(status == 403 && why.contains(name) && why.contains("/meltemi/dashboard"), "{status}: {why}");
    // What is bound in one namespace is no right over what all of them do.
    let account = format!("--serviceaccount={NAMESPACE}:watcher");
    let arguments = ["create", "rolebinding", "watcher", "--namespace", NAMESPACE];
    api.kubectl(&[&arguments[..], &["--clusterrole=meltemi-dashboard", &account]].concat(), "").unwrap();
    assert_eq!(overview().0, 403);
    allow(&api, "watcher");
    let told = eventually("the viewer is let in", || Some(overview()).filter(|(status, _)| *status == 200));
    let told: Value = serde_json::from_str(&told.1).unwrap();
    assert!(told["proxies"].is_array(), "{told}");
    assert_eq!(ask("/api/none", Some(&token)).0, 404);

    api.stop();
    let why =
        eventually("nobody can be told apart", || Some(overview()).filter(|(status, _)| *status == 503)).1;
    assert!(why.contains("cannot find out whose the token is: the API server does not answer"), "{why}");
    api.resume();
    eventually("the viewer is let in again", || (overview().0 == 200).then_some(()));

    let binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/watcher";
    api.delete(binding);
    eventually("the viewer may not any more", || (overview().0 == 403).then_some(()));
    allow(&api, "watcher");
    eventually("the viewer may again", || (overview().0 == 200).then_some(()));
    api.delete(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/watcher"));
    eventually("the token is revoked", || (overview().0 == 401).then_some(()));
    // An API server that begins knows of no rights yet, and refuses what the controller asks.
    controller.kill();
}

#[test]
fn the_page_asks_for_a_token() {
    let api = shared();
    make_service(&api, NAMESPACE);
    make_router(&api, NAMESPACE, 5);
    let (controller, address) = start(&api, "dashboard-page");
    wait_for_objects(&api, NAMESPACE);
    let plan = api.find(&plugin_path(NAMESPACE)).unwrap()["spec"]["pluginConfig"].take();
    let envoy = Setup::new().plan(&plan).plugin(PLUGIN).start(Envoy::all().last().unwrap());
    let kubelet = Kubelet::start([("client".to_owned(), envoy.admin())].into());
    kubelet.run(&api, NAMESPACE, &[("client", "client")]);
    let token = viewer(&api, "reader");
    allow(&api, "reader");

    let browser = Browser::start();
    browser.go(&format!("https://{address}/#/proxies"));
    browser.shows(&["Sign in", "kubectl create token"]);
    assert_eq!(browser.run("return document.activeElement.id"), "token");
    let named = |role: &str, name: &str| vec![(role.to_owned(), name.to_owned())];
    assert_eq!(browser.accessible("form"), named("form", "Sign in"));
    assert_eq!(browser.accessible("#token"), named("textbox", "Token"));
    browser.is_pictured("dashboard-sign-in");
    browser.press("nonsense");
    browser.press(ENTER);
    browser.shows(&["does not take the token"]);
    assert_eq!(browser.run("return document.activeElement.getAttribute('aria-invalid')"), "true");

    browser.press(&token);
    browser.press(ENTER);
    browser.shows(&["dashboard/client", "in force"]);
    assert_eq!(browser.run("return document.activeElement.id"), "main", "a reader goes on at what is new");
    let kept = "return document.cookie + localStorage.length + sessionStorage.length + location.href";
    assert_eq!(browser.run(kept), format!("00https://{address}/#/proxies"), "the token is in the page alone");
    browser.go(&format!("https://{address}/#/resources"));
    browser.shows(&["greeter", "accepted"]);
    browser.go(&format!("https://{address}/#/"));
    browser.shows(&["prox", "ejections/s."]);

    browser.tab_to("Sign out");
    browser.press(ENTER);
    let shown = browser.shows(&["Sign in"]);
    assert!(!shown.contains("Calls by RPC service"), "{shown}");
    let complaints = browser.complaints();
    let others: Vec<&String> = complaints.iter().filter(|text| !text.contains("401")).collect();
    assert_eq!(others, Vec::<&String>::new());
    api.delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/reader");
    assert!(controller.end().success());
}
