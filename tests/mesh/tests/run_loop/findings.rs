//! What is wrong with resources is refused by the webhook, or reported to who wrote them.

use meltemi_tests::eventually;
use meltemi_tests::java::free_address;
use serde_json::{Value, json};

use crate::api::{Api, shared};
use crate::controller::Controller;
use crate::{make_router, make_service, plugin_path, router_path, wait_for_condition};

#[test]
fn the_webhook_refuses_what_could_not_be_in_force() {
    // One of its own, since the webhook is made to be at another address here.
    let api = Api::start("webhook");
    make_service(&api, "webhook");
    let address = free_address().to_string();
    let flags = ["--istio-version=1.30"];
    let controller = Controller::start_with(&api, "webhook", &address, &flags);
    let configuration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/meltemi";
    let mut webhooks = api.find(configuration).unwrap()["webhooks"].take();
    // The API server has no network to the Service's addresses here. `Fail` shows that the webhook answers.
    webhooks[0]["clientConfig"] = json!({"url": format!("https://{}/validate", controller.webhook)});
    webhooks[0]["failurePolicy"] = json!("Fail");
    api.patch(configuration, &json!({"webhooks": webhooks}));
    assert!(controller.end().success());
    let controller = Controller::start_with(&api, "webhook-again", &address, &flags);
    eventually("the certificate is trusted", || {
        let bundle = &api.find(configuration)?["webhooks"][0]["clientConfig"]["caBundle"];
        bundle.is_string().then_some(())
    });
    eventually("the webhook is served", || (controller.view("readyz").0 == 200).then_some(()));
    eventually("a good router is taken", || {
        api.kubectl(&["apply", "-f", "-"], &router("webhook", "other")).ok()
    });
    let refusal = api.kubectl(&["apply", "-f", "-"], &router("webhook", "tag")).unwrap_err();
    assert!(
        refusal.contains("admission webhook \"resources.meltemi.io\" denied the request")
            && refusal.contains("the attachment \"tag\" is set as well"),
        "{refusal}"
    );
    assert!(controller.metric("reviews_total{outcome=\"refused\"}") > 0);
    webhooks[0]["failurePolicy"] = json!("Ignore");
    api.patch(configuration, &json!({"webhooks": webhooks}));
    assert!(controller.end().success());
}

/// A router that sets one attachment, and removes another.
fn router(namespace: &str, removed: &str) -> String {
    format!(
        "
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {{name: attachments, namespace: {namespace}}}
spec:
  hosts: [greeter]
  routes:
  - route: [{{destination: {{host: greeter}}}}]
    requestMutation: [{{key: tag, value: gray}}]
    requestRemove: [{removed}]
"
    )
}

#[test]
fn findings_are_told_by_status_and_events() {
    let api = shared();
    make_service(&api, "findings");
    make_router(&api, "findings", 1);
    let controller = Controller::start(&api, "findings");
    let path = router_path("findings");
    wait_for_condition(&api, &path, "Accepted", "True");
    wait_for_condition(&api, &path, "Honoured", "True");
    // The API server has events of its own, such as that of an address given twice.
    let events = || {
        let mut events = api.list("/apis/events.k8s.io/v1/namespaces/findings/events");
        events.retain(|event| event["regarding"]["kind"] == "MetaRouter");
        events
    };
    assert_eq!(events(), Vec::<Value>::new());

    api.patch(&path, &json!({"spec": {"hosts": ["nobody"]}}));
    let message = wait_for_condition(&api, &path, "Accepted", "False");
    assert!(message.contains("spec.hosts[0]: no managed service has the host"), "{message}");
    let event =
        eventually("an event tells", || events().into_iter().find(|event| event["reason"] == "Invalid"));
    assert_eq!(event["regarding"]["name"], "greeter");
    assert_eq!(event["type"], "Warning");
    assert!(event["note"].as_str().unwrap().contains("no managed service has the host"), "{event}");

    api.patch(&path, &json!({"spec": {"hosts": ["greeter"]}}));
    wait_for_condition(&api, &path, "Accepted", "True");
    eventually("an event tells", || {
        events().into_iter().find(|event| event["reason"] == "Accepted" && event["type"] == "Normal")
    });
    assert!(controller.end().success());
}

#[test]
fn describing_a_resource_tells_where_it_is_in_force_and_what_is_not() {
    let api = shared();
    make_service(&api, "described");
    make_router(&api, "described", 1);
    let path = router_path("described");
    let describe = |parts: &[&str]| {
        let arguments = ["describe", "metarouters.meltemi.io", "greeter", "--namespace", "described"];
        let told = api.kubectl(&arguments, "").unwrap();
        parts.iter().for_each(|part| assert!(told.contains(part), "{part}: {told}"));
        told
    };
    let flags = ["--istio-version=1.30", "--warm-up-seconds=3600"];
    let controller = Controller::start_with(&api, "described-waiting", "127.0.0.1:0", &flags);
    let message = wait_for_condition(&api, &path, "Programmed", "False");
    assert_eq!(message, "not yet in described: sidecars are given the time to fetch the module");
    describe(&[&message, "Pending", "in force for clients in described"]);
    assert!(controller.end().success());

    let controller = Controller::start(&api, "described");
    wait_for_condition(&api, &path, "Programmed", "True");
    describe(&["Programmed", "Last Transition Time", "every field is honoured", "Observed Generation"]);

    api.patch(
        &path,
        &json!({"spec": {
            "exportTo": ["elsewhere"],
            "localRateLimit": {"tokenBucket": {"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "1s"}},
        }}),
    );
    let message = wait_for_condition(&api, &path, "Honoured", "False");
    assert!(message.contains("spec.localRateLimit: not enforced: "), "{message}");
    eventually("an event tells", || {
        let told = describe(&[&message]);
        let (_, events) = told.split_once("Events:")?;
        (events.contains("NotHonoured") && events.contains("meltemi.io/controller")).then_some(())
    });
    assert!(controller.end().success());
}

#[test]
fn what_is_in_force_stays_so_while_more_comes() {
    let api = shared();
    make_service(&api, "stays");
    make_router(&api, "stays", 1);
    let controller = Controller::start(&api, "stays");
    wait_for_condition(&api, &router_path("stays"), "Programmed", "True");
    let programmed = || {
        let conditions = api.find(&router_path("stays")).unwrap()["status"]["conditions"].take();
        let of_type = |condition: &&Value| condition["type"] == "Programmed";
        conditions.as_array().unwrap().iter().find(of_type).unwrap().clone()
    };
    let before = programmed();
    assert!(controller.end().success());

    // Nothing that comes is in force while the next one runs.
    let flags = ["--istio-version=1.30", "--warm-up-seconds=3600"];
    let controller = Controller::start_with(&api, "stays-waiting", "127.0.0.1:0", &flags);
    api.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: other, namespace: stays, annotations: {networking.istio.io/exportTo: .}}
spec:
  selector: {app: other}
  ports: [{name: tcp-dubbo, port: 20880, targetPort: 20881}]
---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: other, namespace: stays}
spec:
  exportTo: [.]
  hosts: [other]
  routes: [{name: all, route: [{destination: {host: other}}]}]
",
    );
    let other = router_path("stays").replace("greeter", "other");
    let waits = "not yet in stays: sidecars are given the time to fetch the module";
    eventually("the other waits", || {
        (wait_for_condition(&api, &other, "Programmed", "False") == waits).then_some(())
    });
    let after = eventually("what waits is said", || {
        let now = programmed();
        now["message"].as_str()?.ends_with(waits).then_some(now)
    });
    let said = |condition: &Value| ["status", "lastTransitionTime"].map(|field| condition[field].clone());
    assert_eq!(said(&after), said(&before), "{after}");
    assert!(controller.end().success());
}

#[test]
fn a_policy_that_cannot_be_read_lets_nobody_call() {
    let api = Api::start("policy");
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/dubboauthorizationpolicies.dubbo.aeraki.io";
    // Aeraki's own definition says nothing of what a policy holds.
    let mut versions = api.find(definition).unwrap()["spec"]["versions"].take();
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    versions[0]["schema"]["openAPIV3Schema"] = anything;
    api.patch(definition, &json!({"spec": {"versions": versions}}));
    make_service(&api, "policy");
    let policy = |rules: &str| {
        api.apply(&format!(
            "
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {{name: few, namespace: policy}}
spec: {{action: DENY, rules: {rules}}}
"
        ));
    };
    policy("[{to: [{operation: {methods: [delete]}}]}]");
    let controller = Controller::start(&api, "policy");
    let inbound = || {
        let plugin = api.find(&format!("{}-server-greeter", plugin_path("policy")))?;
        let services = plugin["spec"]["pluginConfig"]["services"].as_object()?.clone();
        let found = services.into_iter().find(|(authority, _)| authority.starts_with("inbound."));
        Some(found.unwrap().1["routes"].clone())
    };
    let route = |name: &str| json!([{"name": format!("policy/few/{name}"), "reject": {"message": "RBAC: access denied"}}]);
    let methods = eventually("the policy is in force", inbound);
    assert!(methods[0]["match"].to_string().contains("delete"), "{methods}");
    policy("[{to: [{operation: {methods: delete}}]}]");
    eventually("nobody may call", || (inbound()? == route("0")).then_some(()));
    let path = "/apis/dubbo.aeraki.io/v1alpha1/namespaces/policy/dubboauthorizationpolicies/few";
    let message = wait_for_condition(&api, path, "Accepted", "False");
    assert!(
        message.contains("has another shape than its kind") && message.contains("may be called"),
        "{message}"
    );
    policy("[{to: [{operation: {methods: [delete]}}]}]");
    eventually("the policy is in force again", || (inbound()? == methods).then_some(()));
    assert!(controller.end().success());
}

#[test]
fn a_namespace_that_goes_is_no_fault_of_those_who_export_there() {
    let api = shared();
    make_service(&api, "stands");
    // The other sees it, and no namespace of another test.
    api.patch(
        "/api/v1/namespaces/stands/services/greeter",
        &json!({"metadata": {"annotations": {"networking.istio.io/exportTo": ".,goes"}}}),
    );
    make_router(&api, "stands", 1);
    api.patch(&router_path("stands"), &json!({"spec": {"exportTo": [".", "goes"]}}));
    api.apply(
        "
apiVersion: v1
kind: Namespace
metadata: {name: goes, labels: {istio-injection: enabled}}
",
    );
    let controller = Controller::start(&api, "stands");
    wait_for_condition(&api, &router_path("stands"), "Programmed", "True");
    let of_goes = || -> Vec<String> {
        let filters = api.list("/apis/networking.istio.io/v1alpha3/namespaces/goes/envoyfilters");
        filters.iter().map(|filter| filter["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    eventually("it has objects", || (!of_goes().is_empty()).then_some(()));
    // Nobody ends it here, as the API server has no controllers: it stays in between.
    api.kubectl(&["delete", "namespace", "goes", "--wait=false"], "").unwrap();
    api.kubectl(&["delete", "envoyfilters,wasmplugins", "--all", "--namespace", "goes"], "").unwrap();
    // What is written there from now on would be made anew, which the API server refuses.
    let generation = api.patch(
        &router_path("stands"),
        &json!({"spec": {"routes": [{"name": "all", "route": [{"destination": {"host": "greeter"}}], "timeout": "2s"}]}}),
    )["metadata"]["generation"]
        .take();
    eventually("it is programmed", || {
        let conditions = api.find(&router_path("stands"))?["status"]["conditions"].take();
        let programmed = conditions.as_array()?.iter().find(|condition| condition["type"] == "Programmed")?;
        (programmed["status"] == "True" && programmed["observedGeneration"] == generation).then_some(())
    });
    assert!(of_goes().is_empty(), "{:?}", of_goes());
    assert!(controller.end().success());
}

#[test]
fn a_quota_is_told_of_what_it_forbids_and_of_nothing_else() {
    let api = shared();
    make_service(&api, "shares");
    make_router(&api, "shares", 1);
    // One that the tenant sees as well.
    api.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: shared, namespace: shares, annotations: {networking.istio.io/exportTo: '.,tenant'}}
spec:
  selector: {app: shared}
  ports: [{name: tcp-dubbo, port: 20880, targetPort: 20882}]
---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: shared, namespace: shares}
spec:
  exportTo: [., tenant]
  hosts: [shared]
  routes: [{name: all, route: [{destination: {host: shared}}]}]
---
apiVersion: v1
kind: Namespace
metadata: {name: tenant, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: small, namespace: tenant}
spec: {hard: {count/envoyfilters.networking.istio.io: 0}}
",
    );
    // The API server has no controllers here, which count.
    let allow = |most: &str| {
        let quota = "/api/v1/namespaces/tenant/resourcequotas/small";
        let hard = json!({"count/envoyfilters.networking.istio.io": most});
        api.patch(quota, &json!({"spec": {"hard": hard}}));
        let used = json!({"count/envoyfilters.networking.istio.io": "0"});
        api.patch(&format!("{quota}/status"), &json!({"status": {"hard": hard, "used": used}}));
    };
    allow("0");
    let controller = Controller::start(&api, "shares");
    let path = router_path("shares").replace("greeter", "shared");
    let message = wait_for_condition(&api, &path, "Programmed", "False");
    assert!(
        message.starts_with(
            "not yet in tenant: objects there cannot be written: envoyfilters.networking.istio.io "
        ) && message.contains("exceeded quota: small, requested: "),
        "{message}"
    );
    // No call to the other comes from there.
    wait_for_condition(&api, &router_path("shares"), "Programmed", "True");
    allow("100");
    // What is written has the controller try again at once.
    api.patch(
        &path,
        &json!({"spec": {"routes": [{"name": "all", "route": [{"destination": {"host": "shared"}}], "timeout": "2s"}]}}),
    );
    wait_for_condition(&api, &path, "Programmed", "True");
    // It warned of what it could not write.
    controller.kill();
}
