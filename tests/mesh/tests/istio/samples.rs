//! The samples that people begin with, as they stand in `istio-samples`.

use std::fs;

use meltemi::sample::{Call, Client};
use meltemi_mesh_tests::{Process, Workload};
use meltemi_tests::{eventually, files};
use serde_json::Value;

use crate::stage;

const NAMESPACE: &str = "dubbo";

#[test]
fn the_sample_of_dubbo_does_what_it_says() {
    let mut stage = stage::take();
    let read = |name| fs::read_to_string(files::root().join("istio-samples/dubbo").join(name)).unwrap();
    // It stays: the controller that empties namespaces which are deleted is not here.
    stage.mesh.apply(&read("namespace.yaml"));
    for name in ["service.yaml", "workloads.yaml", "destination-rule.yaml", "meta-router.yaml"] {
        stage.apply(&read(name));
    }
    let deployments = stage.mesh.cluster().list(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"));
    stage.mesh.start_pods(deployments.iter().map(workload));
    let _containers: Vec<Process> = deployments
        .iter()
        .map(|deployment| {
            let name = deployment["metadata"]["name"].as_str().unwrap();
            let mut command = stage::meltemi();
            let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
            command.args(arguments.unwrap().iter().map(|argument| argument.as_str().unwrap()));
            let pod = stage.mesh.pod(NAMESPACE, name);
            pod.enter(|| Process::start(&format!("{NAMESPACE}-{name}-container"), None, &mut command))
        })
        .collect();

    let client = stage.mesh.pod(NAMESPACE, "client");
    client.wait_for_plan(|plan| plan.to_string().contains("testers"));
    let service =
        stage.mesh.cluster().find(&format!("/api/v1/namespaces/{NAMESPACE}/services/demo")).unwrap();
    let address = format!("{}:20880", service["spec"]["clusterIP"].as_str().unwrap()).parse().unwrap();
    let servers = |call: Call<'_>| {
        let replies = client.enter(|| Client::connect(address)?.call_many(200, 4, |_| call));
        let v2 = replies.ok()?.iter().filter(|reply| reply.server() == Some("v2")).count();
        Some(v2)
    };
    eventually("a tester's calls go to v2", || {
        let tester = Call::new("anything", "Ada").with(&[("tag", "canary")]);
        (servers(tester)? == 200).then_some(())
    });
    // A tenth; five standard deviations.
    eventually("a tenth of one method's calls goes to v2", || {
        (1..=41).contains(&servers(Call::new("sayHello", "Ada"))?).then_some(())
    });
    for deployment in &deployments {
        stage.mesh.kill_pod(NAMESPACE, deployment["metadata"]["name"].as_str().unwrap());
    }
}

/// The one pod of a Deployment.
fn workload(deployment: &Value) -> Workload {
    let template = &deployment["spec"]["template"];
    let mut workload = Workload::new(NAMESPACE, deployment["metadata"]["name"].as_str().unwrap());
    for (name, value) in template["metadata"]["labels"].as_object().unwrap() {
        workload = workload.label(name, value.as_str().unwrap());
    }
    workload.account = template["spec"]["serviceAccountName"].as_str().unwrap().to_owned();
    workload
}
