//! Nothing grows out of its place: objects stay small, and tunnels lead to plans that have what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use meltemi::generate::{Object, Output};
use serde_json::json;

use crate::authorization::POLICIES;
use crate::{made, names, namespace, service};

/// A router with so many routes for a host of its namespace.
fn router(namespace: &str, name: &str, host: &str, routes: usize) -> String {
    let mut text = format!(
        "---\napiVersion: meltemi.io/v1alpha1\nkind: MetaRouter\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         hosts: [{host}]\n  routes:\n"
    );
    for route in 0..routes {
        let _ = writeln!(
            text,
            "  - {{name: {name}-{route}, match: {{attributes: {{method: {{exact: {name}Method{route}}}, tag: {{exact: \
             {name}-tag-{route}}}}}}}, route: [{{destination: {{host: {host}}}}}]}}"
        );
    }
    text
}

/// A shop whose server is guarded, and its clients.
fn shop() -> String {
    let namespaces = ["shop", "web", "evil"].map(namespace).concat();
    format!("{namespaces}{}{POLICIES}", service("shop", "greeter", "10.0.0.1"))
}

/// So many services of a tenant, the first of them with large routers.
fn tenant(services: usize, routers: usize) -> String {
    let mut text = String::new();
    for number in 0..services {
        text +=
            &service("evil", &format!("e{number}"), &format!("10.1.{}.{}", number / 250, number % 250 + 1));
    }
    for number in 0..routers {
        text += &router("evil", &format!("big{number}"), "e0", 800);
    }
    text
}

/// The objects of the sidecars of a guarded server.
fn of_server(output: &Output) -> Vec<&Object> {
    let is_its = |object: &&Object| {
        let name = &*object.metadata.name;
        object.metadata.namespace == "shop" && (name.contains("-server-") || name.contains("-inbound-"))
    };
    output.objects.iter().filter(is_its).collect()
}

#[test]
fn what_guards_servers_is_moved_by_nobody() {
    let before = made(&shop());
    let guarded = of_server(&before);
    let names: Vec<_> = guarded.iter().map(|object| (object.kind, &*object.metadata.name)).collect();
    let wanted = [
        ("WasmPlugin", "meltemi-server-greeter"),
        ("EnvoyFilter", "meltemi-sockets-server-greeter"),
        ("EnvoyFilter", "meltemi-inbound-greeter"),
    ];
    assert_eq!(names, wanted);
    for (services, routers) in [(1, 1), (12, 3), (12, 30), (500, 0)] {
        let after = made(&format!("{}{}", shop(), tenant(services, routers)));
        assert_eq!(of_server(&after), guarded, "{services} services, {routers} routers");
    }
}

#[test]
fn servers_share_nothing_with_clients() {
    let output = made(&format!("{}{}", shop(), tenant(12, 3)));
    for object in output.objects.iter().filter(|object| object.kind == "WasmPlugin") {
        let inbound = object.plan().filter(|(authority, _)| authority.contains("inbound.")).count();
        let plan = json!(object.spec)["pluginConfig"].take();
        let name = format!("{}/{}", object.metadata.namespace, object.metadata.name);
        assert!(inbound == 0 || inbound == object.plan().count(), "{name}");
        // Only where policies guard is an unknown authority refused.
        let refuses = (name == "shop/meltemi-server-greeter").then_some("refuse");
        assert_eq!(plan.get("unknownAuthority").map(|value| value.as_str().unwrap()), refuses, "{name}");
        assert_eq!(json!(object.spec)["failStrategy"] == "FAIL_CLOSE", refuses.is_some(), "{name}");
    }
}

/// Where each authority is, by namespace and shard.
fn places(output: &Output) -> BTreeMap<(String, String), BTreeSet<String>> {
    let modules = output.objects.iter().filter(|object| object.kind == "WasmPlugin");
    let place = |object: &Object| {
        let authorities = object.plan().map(|(authority, _)| authority.to_owned()).collect();
        ((object.metadata.namespace.clone(), object.metadata.name.clone()), authorities)
    };
    modules.map(place).collect()
}

#[test]
fn no_plan_loses_an_entry_to_another() {
    let sizes = [1, 40, 120, 400, 120, 1, 400];
    let mesh = |services: usize| {
        let mut text = shop();
        for number in 0..services {
            let name = format!("s{number}");
            text += &service("web", &name, &format!("10.2.{}.{}", number / 250, number % 250 + 1));
            text += &router("web", &name, &name, 40);
        }
        text
    };
    let outputs = sizes.map(|size| made(&mesh(size)));
    let most = outputs.iter().map(|output| places(output).len()).max().unwrap();
    assert!(most > 12, "the mesh outgrows its shards: {most}");
    for (output, next) in outputs.iter().zip(&outputs[1..]) {
        for object in &output.objects {
            let bytes = serde_json::to_vec(object).unwrap().len();
            assert!(bytes < 1 << 20, "{} {} has {bytes} bytes", object.kind, object.metadata.name);
        }
        let (before, after) = (places(output), places(next));
        let all = |places: &BTreeMap<_, BTreeSet<String>>| -> BTreeSet<String> {
            places.values().flatten().cloned().collect()
        };
        let there = all(&after);
        for (place, authorities) in &before {
            let Some(now) = after.get(place) else { continue };
            let lost: Vec<_> = authorities.difference(now).filter(|lost| there.contains(*lost)).collect();
            assert_eq!(lost, Vec::<&String>::new(), "{place:?}");
        }
    }
}

#[test]
fn tunnels_lead_where_their_entry_is() {
    let output = made(&format!("{}{}", shop(), tenant(900, 3)));
    let places = places(&output);
    let mut tunnels = 0;
    for object in output.objects.iter().filter(|object| object.kind == "EnvoyFilter") {
        for patch in json!(object.spec)["configPatches"].as_array().unwrap() {
            let tunnel = &patch["patch"]["value"]["typed_config"];
            let (Some(shard), Some(authority)) =
                (tunnel["cluster"].as_str(), tunnel["tunneling_config"]["hostname"].as_str())
            else {
                continue;
            };
            let place = (object.metadata.namespace.clone(), shard.to_owned());
            assert!(places[&place].contains(authority), "{authority} in {place:?}");
            assert!(object.shards.contains(shard), "{} needs {shard}", object.metadata.name);
            tunnels += 1;
        }
    }
    assert!(tunnels > 2700, "{tunnels} of {} objects: {:?}", output.objects.len(), names(&output));
}
