//! What the README has people do on Istio, done as it is written there.

use std::ops::RangeInclusive;

use meltemi::sample::{Call, Client};
use meltemi_tests::{eventually, files};
use nix::sys::signal::Signal;

use crate::samples::Sample;
use crate::shell::{self, Shell};
use crate::stage::{self, MELTEMI, SYSTEM, Stage};

const SAMPLE: Sample =
    Sample { folder: "dubbo", namespace: "dubbo", deployments: &["demo-v1", "demo-v2", "client"] };

#[test]
fn the_readme_does_what_it_says() {
    let mut stage = stage::take();
    stage.end_controller(Signal::SIGTERM);
    stage.remove_later(&SAMPLE.objects());
    let blocks = shell::blocks(&stage.mesh, "README.md", "On Istio");
    let [walk, pipe] = blocks.as_slice() else { panic!("{} blocks of commands", blocks.len()) };
    let (edit, walk) = walk.split_last().unwrap();
    let mut shell = Shell::start(&stage.mesh, MELTEMI);
    let mut awaited = vec![
        ("kubectl --namespace dubbo logs", "v1"),
        ("kubectl get metarouters", "True"),
        ("meltemi explain", "dubbo/demo/say-hello"),
    ];
    for command in walk {
        let printed = shell.run(command);
        println!("$ {command}\n{printed}");
        stage.mesh.settle();
        stage.mesh.deploy(SYSTEM);
        stage.mesh.deploy(SAMPLE.namespace);
        awaited.retain(|(part, expected)| !(command.contains(part) && printed.contains(expected)));
    }
    assert_eq!(awaited, [], "what commands were to print");
    assert_routed(&stage, 1..=41);

    assert!(edit.contains(" edit "), "{edit}");
    shell.run("export KUBE_EDITOR=\"sed -i 's/weight: 90/weight: 30/; s/weight: 10/weight: 70/'\"");
    shell.run(edit);
    assert_routed(&stage, 107..=173);

    // The same without a controller.
    stage.end_controller(Signal::SIGTERM);
    shell.run(
        "kubectl delete envoyfilters,wasmplugins,virtualservices -A -l app.kubernetes.io/managed-by=meltemi",
    );
    eventually("nothing is managed", || client_servers(&stage, sayer()).filter(|v2| [0, 200].contains(v2)));
    for command in pipe {
        println!("$ {command}\n{}", shell.run(command));
    }
    assert_routed(&stage, 107..=173);
    SAMPLE.end(&mut stage);
}

/// The manifests that are for those who have no command.
#[test]
fn the_api_server_takes_the_manifests() {
    let stage = stage::take();
    let manifests = files::root().join("istio-samples/install");
    stage.mesh.cluster().kubectl(&["apply", "--dry-run=server", "-k", manifests.to_str().unwrap()], "");
}

/// Waits until testers' calls go to the second version, and so many of 200 calls of one method.
fn assert_routed(stage: &Stage, share: RangeInclusive<usize>) {
    let tester = Call::new("anything", "Ada").with(&[("tag", "canary")]);
    eventually("testers' calls go to v2", || (client_servers(stage, tester)? == 200).then_some(()));
    eventually(&format!("{share:?} of 200 calls go to v2"), || {
        share.contains(&client_servers(stage, sayer())?).then_some(())
    });
}

fn sayer() -> Call<'static> {
    Call::new("sayHello", "Ada")
}

/// How many of 200 calls on one connection from the client's pod go to the second version.
fn client_servers(stage: &Stage, call: Call<'_>) -> Option<usize> {
    let namespace = SAMPLE.namespace;
    let service =
        stage.mesh.cluster().find(&format!("/api/v1/namespaces/{namespace}/services/demo")).unwrap();
    let address = format!("{}:20880", service["spec"]["clusterIP"].as_str().unwrap()).parse().unwrap();
    let client = stage.mesh.pod(namespace, "client");
    let replies = client.enter(|| Client::connect(address)?.call_many(200, 4, |_| call)).ok()?;
    Some(replies.iter().filter(|reply| reply.server() == Some("v2")).count())
}
