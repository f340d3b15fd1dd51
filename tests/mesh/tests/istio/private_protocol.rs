//! A protocol of one's own, with a module of its own, as its tutorial has it in a mesh.

use std::{fs, io};

use courier::Client;
use meltemi_tests::{at_last, files};
use nix::sys::signal::Signal;

use crate::samples::Sample;
use crate::shell::{self, Shell};
use crate::stage::{self, MELTEMI, SYSTEM};

const SAMPLE: Sample = Sample {
    folder: "private-protocol",
    namespace: "courier",
    deployments: &["parcels-v1", "parcels-v2", "client"],
};

#[test]
fn the_tutorial_leads_into_the_mesh() {
    let mut stage = stage::take();
    stage.mesh.provide("courier", &[files::courier_server().to_str().unwrap()]);
    stage.end_controller(Signal::SIGTERM);
    stage.remove_later(&SAMPLE.objects());
    let blocks = shell::blocks(&stage.mesh, "docs/private-protocol.md", "7. In an Istio mesh");
    let [commands] = blocks.as_slice() else { panic!("{} blocks of commands", blocks.len()) };
    let (logs, commands) = commands.split_last().unwrap();
    let mut shell = Shell::start(&stage.mesh, MELTEMI);
    let crate_folder = shell.home.path().join("courier");
    fs::create_dir(&crate_folder).unwrap();
    fs::copy(files::courier_module(), crate_folder.join("courier.wasm")).unwrap();
    shell.run("cd ../courier");
    for command in commands {
        println!("$ {command}\n{}", shell.run(command));
    }
    stage.mesh.deploy(SYSTEM);
    stage.mesh.deploy(SAMPLE.namespace);

    let cluster = stage.mesh.cluster();
    let service = cluster.find("/api/v1/namespaces/courier/services/parcels").unwrap();
    let address = format!("{}:7000", service["spec"]["clusterIP"].as_str().unwrap());
    let client = stage.mesh.pod(SAMPLE.namespace, "client");
    let servers = |connection: &mut Client, command: &str| -> io::Result<Vec<String>> {
        (0..20).try_for_each(|_| connection.send("harbour/3", command, b"box").map(drop))?;
        (0..20).map(|_| Ok(connection.receive()?.2.split(':').next().unwrap().to_owned())).collect()
    };
    // A connection from before the tunnels stays with one server, and one from before the servers is closed.
    let mut connection = at_last("what is tracked goes to v2, all else to v1", || {
        let mut connection = client.enter(|| Client::connect(&address))?;
        let found = [servers(&mut connection, "track")?, servers(&mut connection, "deliver")?];
        let by_route = found == [["v2"; 20], ["v1"; 20]];
        by_route.then_some(connection).ok_or_else(|| io::Error::other(format!("{found:?}")))
    });
    assert_eq!(servers(&mut connection, "track").unwrap(), ["v2"; 20]);
    assert_eq!(servers(&mut connection, "deliver").unwrap(), ["v1"; 20]);
    let printed = shell.run(logs);
    for answer in ["DONE v2: track box at harbour/3", "DONE v1: deliver box at harbour/3"] {
        assert!(printed.contains(answer), "{printed}");
    }
    SAMPLE.end(&mut stage);
    stage.end_controller(Signal::SIGTERM);
}
