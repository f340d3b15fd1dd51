//! What the controller may read only where it is allowed to.

use meltemi_tests::eventually;

use crate::api::{MODULE, shared};
use crate::controller::Controller;
use crate::{filter_path, install, wait_for_condition};

#[test]
fn passwords_are_read_where_that_is_allowed() {
    let api = shared();
    api.apply(
        "
apiVersion: v1
kind: Namespace
metadata: {name: passwords, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: passwords, annotations: {networking.istio.io/exportTo: .}}
spec: {ports: [{name: tcp-redis, port: 6379}]}
---
apiVersion: v1
kind: Secret
metadata: {name: cache, namespace: passwords}
stringData: {password: s3cret}
",
    );
    let images = ["--image=registry.example.org/meltemi:0.1", "--module", MODULE];
    let survey = || install(&api, &[&images[..], &["--dry-run"]].concat()).1;
    let line = "passwords  cache.passwords.svc.cluster.local  6379  redis";
    let is_line = |told: &str| told.split_whitespace().collect::<Vec<_>>().join("  ").contains(line);
    let told = survey();
    let (_, left) = told.split_once("left alone").unwrap_or_else(|| panic!("{told}"));
    assert!(is_line(left), "{told}");

    let service = |host: &str| {
        api.apply(&format!(
            "
apiVersion: redis.aeraki.io/v1alpha1
kind: RedisService
metadata: {{name: cache, namespace: passwords}}
spec: {{host: [{host}], settings: {{auth: {{secret: {{name: cache}}}}}}}}
"
        ));
    };
    service("cache");
    let told = survey();
    assert!(
        told.contains("would be taken over:") && is_line(&told) && !told.contains("left alone"),
        "{told}"
    );

    let controller = Controller::start(&api, "passwords");
    let path = "/apis/redis.aeraki.io/v1alpha1/namespaces/passwords/redisservices/cache";
    let message = wait_for_condition(&api, path, "Accepted", "False");
    assert!(message.contains("`meltemi install --redis-secrets=passwords`"), "{message}");

    install(&api, &[&images[..], &["--redis-secrets=passwords"]].concat());
    // Another spelling of the host has the controller look again before a minute is over.
    service("cache.passwords.svc.cluster.local");
    let mend = eventually("the mend is told", || {
        let message = wait_for_condition(&api, path, "Accepted", "False");
        let (_, mend) = message.split_once("kubectl ")?;
        Some(mend.split_once(": ")?.0.to_owned())
    });
    assert_eq!(mend, "label secret --namespace=passwords cache meltemi.io/redis-password=true");
    api.kubectl(&mend.split(' ').collect::<Vec<_>>(), "").unwrap();
    let proxy = filter_path("passwords", "meltemi-redis-passwords");
    assert_eq!(api.find(&proxy), None);
    // It warned of what it might not read.
    controller.kill();

    let controller = Controller::start(&api, "passwords-again");
    wait_for_condition(&api, path, "Accepted", "True");
    let proxy = eventually("the proxy is there", || api.find(&proxy));
    assert!(proxy.to_string().contains("s3cret"));
    assert!(controller.end().success());
}
