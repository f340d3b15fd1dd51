//! `meltemi diff`, and what a command would change.

use std::fs;

use crate::{DELIVERED, ROUTER, SERVICE, both, generate, meltemi};

#[test]
fn differences_are_those_of_diff() {
    let folder = tempfile::tempdir().unwrap();
    let against = folder.path().to_str().unwrap();
    let diff = |input: &str| meltemi(&[&["diff", "-", "--against", against], &DELIVERED[..]].concat(), input);
    let (_, objects, _) = generate(&[], &both(ROUTER));
    fs::write(folder.path().join("objects.yaml"), objects).unwrap();
    assert_eq!(diff(&both(ROUTER)), (0, String::new(), String::new()));

    let (code, output, _) = diff(&both(&ROUTER.replacen("timeout: 2s", "timeout: 3s", 1)));
    assert_eq!(code, 1);
    let changed: Vec<&str> = output.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    assert_eq!(
        changed,
        [
            "--- WasmPlugin shop/meltemi",
            "+++ WasmPlugin shop/meltemi",
            "-          timeout: 2s",
            "+          timeout: 3s",
        ],
        "{output}"
    );

    let (code, output, _) = diff("");
    assert_eq!(code, 1);
    assert!(output.contains("--- WasmPlugin shop/meltemi\n+++ /dev/null\n"), "{output}");
    fs::remove_file(folder.path().join("objects.yaml")).unwrap();
    let (code, output, _) = diff(&both(ROUTER));
    assert_eq!(code, 1);
    assert!(output.contains("--- /dev/null\n+++ EnvoyFilter shop/meltemi-outbound-shop\n"), "{output}");

    let (code, output, error) = diff(&both(&ROUTER.replacen("2s", "2 s", 1)));
    assert_eq!((code, &*output), (2, ""));
    assert!(error.contains("nothing is compared"), "{error}");
    let missing = [&["diff", "-", "--against", "/no/such/folder"], &DELIVERED[..]].concat();
    assert_eq!(meltemi(&missing, SERVICE).0, 2);
}

#[test]
fn plans_that_are_delivered_as_text_are_compared_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let against = folder.path().to_str().unwrap();
    let delivery = ["--delivery", "extension-config"];
    let diff = |input: &str| {
        meltemi(&[&["diff", "-", "--against", against], &DELIVERED[..], &delivery[..]].concat(), input)
    };
    let (_, objects, _) = generate(&delivery, &both(ROUTER));
    fs::write(folder.path().join("objects.yaml"), objects).unwrap();
    assert_eq!(diff(&both(ROUTER)), (0, String::new(), String::new()));
    let (code, output, _) = diff(&both(&ROUTER.replacen("timeout: 2s", "timeout: 3s", 1)));
    assert_eq!(code, 1);
    let changed: Vec<&str> = output.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    let [.., old, new] = &*changed else { panic!("{output}") };
    assert_eq!((changed.len(), old[1..].trim(), new[1..].trim()), (4, "timeout: 2s", "timeout: 3s"));
}

#[test]
fn what_would_be_taken_over_is_told() {
    let cache = |name: &str| {
        format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{clusterIP: 10.0.1.1, ports: [{{name: tcp-redis, port: 6379}}]}}
"
        )
    };
    let asking = "---
apiVersion: redis.aeraki.io/v1alpha1
kind: RedisService
metadata: {name: asked, namespace: shop}
spec: {host: [asked]}
";
    let (one, all) = (both(ROUTER), format!("{}{}{}{asking}", both(ROUTER), cache("asked"), cache("plain")));
    let folder = tempfile::tempdir().unwrap();
    let against = folder.path().to_str().unwrap();
    let diff =
        |input: &str| meltemi(&[&["diff", "-", "--against", against], &DELIVERED[..]].concat(), input).2;
    let left = "left alone, since no RedisService or RedisDestination of the namespace names the host:
NAMESPACE  HOST                          PORT  PROTOCOL
shop       plain.shop.svc.cluster.local  6379  redis
";
    let of_all = "would be taken over:
NAMESPACE  HOST                            PORT   PROTOCOL
shop       asked.shop.svc.cluster.local    6379   redis
shop       greeter.shop.svc.cluster.local  20880  dubbo
";
    assert_eq!(diff(&all), format!("{of_all}{left}"));
    let objects = generate(&[], &one).1;
    fs::write(folder.path().join("objects.yaml"), &objects).unwrap();
    let new = "would be taken over:
NAMESPACE  HOST                          PORT  PROTOCOL
shop       asked.shop.svc.cluster.local  6379  redis
";
    assert_eq!(diff(&all), format!("{new}{left}"));
    let (code, objects, error) = generate(&[], &all);
    assert_eq!((code, &*error), (0, left));
    fs::write(folder.path().join("objects.yaml"), &objects).unwrap();
    assert_eq!(diff(&all), left);
    // By whom objects were applied is no difference.
    fs::write(folder.path().join("objects.yaml"), generate(&["--instance=canary"], &all).1).unwrap();
    assert_eq!(diff(&all), left);
    assert_eq!(generate(&["--instance=a b"], &one).0, 2);
}

/// What is written packed is read as people wrote it.
#[test]
fn differences_of_large_plans_are_those_of_their_routes() {
    let folder = tempfile::tempdir().unwrap();
    let against = folder.path().to_str().unwrap();
    let routes: String = (0..1000)
        .map(|at| {
            format!(
                "  - {{name: r{at}, match: {{attributes: {{method: {{exact: method{at}}}}}}}, route: [{{destination: \
                 {{host: greeter}}}}], timeout: 2s}}\n"
            )
        })
        .collect();
    let (head, _) = ROUTER.split_once("  - name: canary").unwrap();
    let router = format!("{head}{routes}");
    let (_, objects, _) = generate(&[], &both(&router));
    assert!(!objects.contains("method999") && objects.len() < 40_000, "{} bytes", objects.len());
    fs::write(folder.path().join("objects.yaml"), objects).unwrap();
    let diff = |input: &str| meltemi(&[&["diff", "-", "--against", against], &DELIVERED[..]].concat(), input);
    assert_eq!(diff(&both(&router)), (0, String::new(), String::new()));

    let (code, output, _) = diff(&both(&router.replacen("exact: method500}", "exact: another}", 1)));
    assert_eq!(code, 1);
    let changed: Vec<&str> = output.lines().filter(|line| line.starts_with(['-', '+'])).collect();
    let [.., old, new] = &*changed else { panic!("{output}") };
    assert_eq!(
        (changed.len(), old.trim_end(), new.trim_end()),
        (4, "-                exact: method500", "+                exact: another")
    );

    let explain = ["explain", "-", "--host", "greeter.shop", "-a", "method=method999"];
    let (code, output, error) = meltemi(&explain, &both(&router));
    assert_eq!(code, 0, "{error}");
    assert!(output.contains("shop/greeter/r999"), "{output}");
}
