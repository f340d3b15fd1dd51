//! Nothing grows out of its place: objects stay small, and tunnels lead to plans that have what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use meltemi::generate::{Object, Output, unpack};
use meltemi_codecs::Codecs;
use meltemi_codecs::Head;
use meltemi_proxy::plan::{Destination, Plan};
use serde_json::{Value, json};

use crate::authorization::POLICIES;
use crate::{findings, made, names, namespace, object, plan, plan_of, service};

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
        let inbound = plan_of(object).filter(|(authority, _)| authority.contains("inbound.")).count();
        let plan = json!(object.spec)["pluginConfig"].take();
        let name = format!("{}/{}", object.metadata.namespace, object.metadata.name);
        assert!(inbound == 0 || inbound == plan_of(object).count(), "{name}");
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
        let authorities = plan_of(object).map(|(authority, _)| authority).collect();
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

/// So many characters that nothing makes shorter.
fn noise(seed: usize, characters: usize) -> String {
    let mut state = u32::try_from(seed).unwrap() + 1;
    let letter = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit((state >> 24) % 36, 36).unwrap()
    };
    (0..characters).map(letter).collect()
}

/// A router that takes up so many KiB of a plan.
fn noisy(namespace: &str, name: &str, host: &str, kib: usize) -> String {
    let mut text = router(namespace, name, host, 0);
    let routes = kib / 4;
    for route in 0..routes {
        // A letter of 36 is a little more than five bits, of the six that one of Base64 is.
        let method = noise(name.len() * 7919 + route, 4650);
        let _ = writeln!(
            text,
            "  - {{name: {name}-{route}, match: {{attributes: {{method: {{exact: {method}}}}}}}, route: [{{destination: \
             {{host: {host}}}}}]}}"
        );
    }
    text
}

/// Whose routes an entry has, by their names up to the route's own.
fn routers_of(plan: &Value, authority: &str) -> BTreeSet<String> {
    let routes = plan[authority]["routes"].as_array().into_iter().flatten();
    let router = |route: &Value| {
        let name = route["name"].as_str().unwrap();
        name.rsplit_once('/').unwrap().0.to_owned()
    };
    routes.map(router).collect()
}

const GREETER: &str = "greeter.shop.svc.cluster.local:20880";

fn text<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn ten_thousand_routes_of_a_service_fit() {
    let routers = (0..4).map(|number| router("shop", &format!("r{number}"), "greeter", 2500));
    let output = made(&format!(
        "{}{}{}",
        namespace("shop"),
        service("shop", "greeter", "10.0.0.1"),
        routers.collect::<String>()
    ));
    assert_eq!(findings(&output), Vec::<String>::new());
    let module = json!(object(&output, "WasmPlugin", "shop", "meltemi"));
    let bytes = module.to_string().len();
    println!(
        "{bytes} bytes, of {} as the filter reads them",
        plan(&output, "shop")[GREETER].to_string().len()
    );
    assert!(bytes < 256 << 10, "{bytes} bytes");

    let written = &module["spec"]["pluginConfig"];
    assert!(written["services"][GREETER].is_string());
    let compiled = Plan::parse(written.to_string().as_bytes(), &Codecs::all()).unwrap();
    let mut call = Head::new();
    call.replace("method", Some("r3Method2499"));
    call.replace("tag", Some("r3-tag-2499"));
    let route = compiled.service(GREETER).unwrap().route(&call).unwrap();
    assert_eq!(route.name, "shop/r3/r3-2499");

    let mut read = written.clone();
    unpack(&mut read);
    assert_eq!(read["services"][GREETER], plan(&output, "shop")[GREETER]);
}

#[test]
fn a_router_that_is_too_large_is_in_error_alone() {
    let services = service("shop", "greeter", "10.0.0.1") + &service("shop", "other", "10.0.0.2");
    let shop = format!("{}{services}", namespace("shop"));
    let others = noisy("shop", "a", "greeter", 100)
        + &router("shop", "z", "greeter", 3)
        + &router("shop", "o", "other", 3);
    let before = made(&format!("{shop}{others}"));
    assert_eq!(findings(&before), Vec::<String>::new());
    let after = made(&format!("{shop}{others}{}", noisy("shop", "huge", "greeter", 600)));
    assert_eq!(after.objects, before.objects);
    let [finding] = &*findings(&after) else { panic!("{:?}", findings(&after)) };
    let (whose, message) = finding.split_once("not in force: its routes take ").unwrap();
    assert_eq!(whose, "Error MetaRouter shop/huge: spec.routes: ");
    let (size, rest) =
        message.split_once(" KiB of the 512 KiB that the plan has for all routes of greeter.shop").unwrap();
    assert!((513..700).contains(&size.parse().unwrap()), "{finding}");
    assert!(rest.contains("fewer or shorter"), "{finding}");
}

#[test]
fn who_comes_near_the_limit_is_warned() {
    let shop = namespace("shop") + &service("shop", "greeter", "10.0.0.1");
    for (kib, warned) in [(300, 0), (450, 1)] {
        let text =
            format!("{shop}{}{}", noisy("shop", "large", "greeter", kib), router("shop", "r", "greeter", 3));
        let found = findings(&made(&text));
        assert_eq!(found.len(), warned, "{found:?}");
        assert!(
            found.iter().all(|found| found.starts_with("Warning MetaRouter shop/large: spec.routes: 4")),
            "{found:?}"
        );
    }
}

/// The owner's routes stay whatever clients write for their own calls, and elsewhere nothing changes.
#[test]
fn nobody_takes_the_room_of_the_owner() {
    let mesh = format!(
        "{}{}{}{}",
        ["shop", "web", "evil"].map(namespace).concat(),
        service("shop", "greeter", "10.0.0.1"),
        noisy("shop", "own", "greeter", 300),
        router("evil", "small", "greeter.shop.svc.cluster.local", 3),
    );
    let host = "greeter.shop.svc.cluster.local";
    let output = made(&format!("{mesh}{}", noisy("evil", "big", host, 250)));
    for namespace in ["shop", "web"] {
        assert_eq!(routers_of(&plan(&output, namespace), GREETER), text(["shop/own"]), "{namespace}");
    }
    assert_eq!(routers_of(&plan(&output, "evil"), GREETER), text(["evil/small", "shop/own"]));
    let errors: Vec<String> =
        findings(&output).into_iter().filter(|found| found.starts_with("Error")).collect();
    assert!(
        matches!(&*errors, [only] if only.starts_with("Error MetaRouter evil/big: spec.routes: ")),
        "{errors:?}"
    );
}

#[test]
fn a_virtual_service_that_is_too_large_is_in_error_alone() {
    let mut large = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vast, namespace: shop}\n\
                     spec:\n  hosts: [greeter]\n  http:\n"
        .to_owned();
    for at in 0..150 {
        let value = noise(at, 5500);
        let _ = writeln!(
            large,
            "  - {{match: [{{headers: {{tag: {{exact: {value}}}}}}}], route: [{{destination: {{host: greeter}}}}]}}"
        );
    }
    let shop =
        namespace("shop") + &service("shop", "greeter", "10.0.0.1") + &router("shop", "r", "greeter", 3);
    let output = made(&format!("{shop}{large}"));
    assert_eq!(routers_of(&plan(&output, "shop"), GREETER), text(["shop/r"]));
    let errors: Vec<String> =
        findings(&output).into_iter().filter(|found| found.starts_with("Error")).collect();
    let wanted = "Error VirtualService shop/vast: spec.http: not in force: its routes take ";
    assert!(matches!(&*errors, [only] if only.starts_with(wanted)), "{errors:?}");
}

/// What is too large to be written guards all the more.
#[test]
fn a_policy_that_is_too_large_lets_nobody_call() {
    let policy = |name: &str, action: &str, rules: usize| {
        let mut text = format!(
            "---\napiVersion: dubbo.aeraki.io/v1alpha1\nkind: DubboAuthorizationPolicy\nmetadata: {{name: {name}, namespace: \
             shop}}\nspec:\n  action: {action}\n  rules:\n  - {{to: [{{operation: {{methods: [{name}]}}}}]}}\n"
        );
        for rule in 0..rules {
            let _ = writeln!(text, "  - {{to: [{{operation: {{interfaces: [{}]}}}}]}}", noise(rule, 2000));
        }
        text
    };
    let shop = namespace("shop") + &service("shop", "greeter", "10.0.0.1");
    let allowed = |policies: &str, method: &str| {
        let output = made(&format!("{shop}{policies}"));
        let module = json!(object(&output, "WasmPlugin", "shop", "meltemi-server-greeter").spec);
        let compiled = Plan::parse(module["pluginConfig"].to_string().as_bytes(), &Codecs::all()).unwrap();
        let (authority, _) =
            plan_of(object(&output, "WasmPlugin", "shop", "meltemi-server-greeter")).next().unwrap();
        let service = compiled.service(&authority).unwrap();
        let mut call = Head::new();
        call.replace("interface", Some("org.acme.Greeter"));
        call.replace("method", Some(method));
        let route = service.route(&call).unwrap_or(&service.default_route);
        let errors: Vec<String> =
            findings(&output).into_iter().filter(|found| found.starts_with("Error")).collect();
        (!matches!(route.destination, Destination::Reject(_)), errors)
    };
    let few = policy("few", "ALLOW", 0);
    assert_eq!(allowed(&few, "few"), (true, Vec::new()));
    assert_eq!(allowed(&few, "many"), (false, Vec::new()));
    for (action, whose, does) in [("ALLOW", "few", "allows nothing"), ("DENY", "", "denies everything")] {
        let policies = format!("{few}{}", policy("many", action, 500));
        for method in ["few", "many", "other"] {
            let (allowed, errors) = allowed(&policies, method);
            assert_eq!(allowed, method == whose, "{action} {method}");
            let wanted =
                format!("Error DubboAuthorizationPolicy shop/many: spec.rules: {does}: its rules take ");
            assert!(matches!(&*errors, [only] if only.starts_with(&wanted)), "{errors:?}");
        }
    }
}
