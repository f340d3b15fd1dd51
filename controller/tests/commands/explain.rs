//! `meltemi explain`.

use serde_json::Value;

use crate::{ROUTER, SERVICE, both, meltemi, sample};

fn explain(more: &[&str]) -> (i32, String, String) {
    meltemi(&[&["explain", "-"], more].concat(), &both(ROUTER))
}

#[test]
fn the_route_of_a_call_is_explained() {
    let (code, output, error) = explain(&["--host", "greeter.shop", "-a", "tag=canary", "-a", "user=me"]);
    assert_eq!((code, &*error), (0, ""));
    let wanted = "
greeter.shop.svc.cluster.local:20880 (dubbo), as the sidecars of shop have it
  ✓ shop/greeter/canary
    from      MetaRouter shop/greeter, spec.routes[0] (-:15:5)
    goes to   outbound|20881||greeter.shop.svc.cluster.local (90 %)
    goes to   outbound|20880||greeter.shop.svc.cluster.local (10 %)
    timeout   2s
    retries   2, after reset; each try 500ms
    hedge     a second try after 50ms or the 95th percentile of the route's calls, whichever is later
    request   sets k: v
    response  removes internal

  Routes also match on method (not given, so assumed absent).
";
    assert_eq!(output, wanted);
}

#[test]
fn routes_that_are_passed_over_are_explained() {
    let call =
        ["--host", "greeter", "--port", "20880", "-a", "tag=stable", "-a", "method=getAll", "-o", "json"];
    let (code, output, _) = explain(&call);
    assert_eq!(code, 0);
    let explained: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(explained["outcome"], "route");
    assert_eq!(explained["route"], "shop/greeter/1");
    assert_eq!(explained["origin"]["resource"], "MetaRouter shop/greeter");
    assert_eq!(explained["origin"]["path"], "spec.routes[1]");
    assert_eq!(explained["passedOver"][0]["route"], "shop/greeter/canary");
    assert_eq!(explained["passedOver"][0]["because"][0], r#"tag: "stable" does not match exact "canary""#);
    assert_eq!(explained["attributesNotGiven"], serde_json::json!(["user"]));

    let (_, output, _) = explain(&["--host", "greeter", "-a", "method=say"]);
    assert!(output.contains("✓ no route matches the call: it takes the default route"), "{output}");
    let rejecting = format!("{}  onNoMatch: reject\n", both(ROUTER));
    let (_, output, _) = meltemi(&["explain", "-", "--host", "greeter", "-a", "method=say"], &rejecting);
    assert!(output.contains("✗ no route matches the call: it is answered with an error"), "{output}");
}

#[test]
fn gateways_servers_and_other_codecs_are_explained() {
    let sample = sample();
    let sample = sample.to_str().unwrap();
    let (code, output, _) = meltemi(
        &["explain", sample, "--gateway", "istio-system/dubbo", "-a", "interface=org.meltemi.demo.Greeter"],
        "",
    );
    assert_eq!(code, 0);
    assert!(output.contains("by the gateway istio-system/dubbo"), "{output}");
    assert!(output.contains("outbound|20880|"), "{output}");
    let (code, output, _) = meltemi(&["explain", sample, "--host", "demo.dubbo", "--inbound"], "");
    assert_eq!(code, 0);
    assert!(output.contains("\ninbound.demo.dubbo.svc.cluster.local:20881 (dubbo)"), "{output}");

    let private = sample.replace("istio-samples/dubbo", "istio-samples/private-protocol");
    let (code, output, _) = meltemi(
        &["explain", &private, "--host", "parcels", "--codecs", "courier", "-a", "command=track"],
        "",
    );
    assert_eq!(code, 0);
    assert!(output.contains("(courier)") && output.contains("✓ courier/parcels/tracking"), "{output}");
}

#[test]
fn limits_faults_and_mirrors_are_explained() {
    let sample = sample();
    let explain = |more: &[&str]| {
        let call = ["explain", sample.to_str().unwrap(), "--host", "demo.dubbo"];
        meltemi(&[&call[..], more].concat(), "").1
    };
    let limit = "  limit     20 calls at once, and 10 more every 1s\n";
    let limited = explain(&["--inbound", "-a", "method=exportAll"]);
    assert!(limited.contains(limit), "{limited}");
    let other = explain(&["--inbound", "-a", "method=sayHello"]);
    assert!(!other.contains("limit  "), "{other}");
    let untold = explain(&["--inbound"]);
    assert!(untold.contains("match on method (not given"), "{untold}");
    let faults = "    delay     50 % of the calls, by 1s\n    abort     10 % of the calls: aborted to see what happens\n";
    let chaos = explain(&["-a", "tag=chaos"]);
    assert!(chaos.contains(faults), "{chaos}");
    let copies = "    copies    50 % of the calls, to outbound|20880|v2|demo.dubbo.svc.cluster.local\n";
    let shadowed = explain(&["-a", "tag=shadow"]);
    assert!(shadowed.contains(copies), "{shadowed}");
}

#[test]
fn what_cannot_be_explained_says_what_could_be() {
    let (code, _, error) = explain(&["--host", "nobody"]);
    assert_eq!(code, 1);
    let known = "error: no such service is managed; those that are: greeter.shop.svc.cluster.local:20880";
    assert!(error.starts_with(known), "{error}");
    assert_eq!(explain(&["--host", "greeter", "--port", "1"]).0, 1);
    assert_eq!(explain(&["--host", "greeter", "-a", "tag"]).0, 2);
    assert_eq!(explain(&[]).0, 2);
    let two = format!(
        "{SERVICE}---\n{}",
        SERVICE
            .replace("tcp-dubbo, port: 20880", "tcp-dubbo, port: 20890")
            .replace("name: greeter,", "name: greeter-2,")
            .replace("10.0.0.7", "10.0.0.8")
    );
    let (code, _, error) = meltemi(&["explain", "-", "--host", "greeter-2.shop"], &two);
    assert_eq!(code, 0, "{error}");
}
