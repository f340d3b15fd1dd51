use std::fmt::Write;
use std::time::{Duration, Instant};

use meltemi::generate::generate;

use crate::{namespace, options, service, world};

/// The namespaces, each of which sees every service. Without optimization fewer are enough.
const NAMESPACES: usize = if cfg!(debug_assertions) { 3 } else { 20 };

/// The services, with five routes each: 10 000 in all.
const SERVICES: usize = if cfg!(debug_assertions) { 800 } else { 2000 };

/// A mesh of them.
fn large() -> String {
    let mut text = String::new();
    for of in 0..NAMESPACES {
        text += &namespace(&format!("n{of}"));
    }
    for number in 0..SERVICES {
        let of = number % NAMESPACES;
        text += &service(
            &format!("n{of}"),
            &format!("s{number}"),
            &format!("10.0.{}.{}", number / 250, number % 250 + 1),
        );
        let _ = write!(
            text,
            "---\napiVersion: meltemi.io/v1alpha1\nkind: MetaRouter\nmetadata: {{name: s{number}, namespace: n{of}}}\nspec:\n  \
             hosts: [s{number}]\n  routes:\n"
        );
        for route in 0..5 {
            let _ = writeln!(
                text,
                "  - {{name: r{route}, match: {{attributes: {{method: {{exact: m{route}}}}}}}, route: [{{destination: {{host: \
                 s{number}}}}}]}}"
            );
        }
    }
    text
}

#[test]
fn a_large_mesh_is_generated_fast_and_in_pieces() {
    let mut world = world(&large());
    let options = options("dubbo");
    let start = Instant::now();
    let before = generate(&world, &options);
    let took = start.elapsed();
    println!("{} objects in {took:?}", before.objects.len());
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    for object in &before.objects {
        let bytes = serde_json::to_vec(object).unwrap().len();
        assert!(bytes < 1 << 20, "{} {} has {bytes} bytes", object.kind, object.metadata.name);
    }
    assert_eq!(generate(&world, &options), before);

    // One route changes: each namespace's plan that has it, and nothing else.
    world.meta_routers[77].spec.routes[0].timeout = Some("1s".into());
    let after = generate(&world, &options);
    let changed = after.objects.iter().zip(&before.objects).filter(|(after, before)| after != before);
    let changed: Vec<_> = changed.map(|(after, _)| (after.kind, &*after.metadata.namespace)).collect();
    assert_eq!(changed.len(), NAMESPACES, "{changed:?}");
    assert!(changed.iter().all(|(kind, _)| *kind == "WasmPlugin"));
}
