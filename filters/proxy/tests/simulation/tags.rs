//! What plans have spans say of calls, and collectors be told.

use std::collections::BTreeSet;

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

use crate::collector::Span;
use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::posts::posted;
use crate::servers::What;
use crate::spans::{SECOND, count, sampled, spans, world};
use crate::world::{Ask, World};

/// A world whose spans have these tags.
fn tagged(tags: Value, route: Value) -> World {
    let tracing = json!({"sampling": 0, "collector": "collector", "tags": tags});
    world(json!({"tracing": tracing, "defaultRoute": route}))
}

/// The spans of a call.
fn told(world: &mut World, ask: Ask) -> Vec<Span> {
    let client = world.connect();
    world.call_and_wait(client, ask);
    world.run_for(2 * SECOND);
    spans(world)
}

#[test]
fn spans_have_the_tags_of_the_plan() {
    let tags = json!({
        "zone": {"value": "eu"},
        "user": {"attribute": "user"},
        "what": {"attribute": "method", "value": "nothing"},
        "nobody": {"attribute": "nobody"},
        "default": {"attribute": "nobody", "value": "none"},
        "from": {"attribute": "source.ip"},
    });
    let mut world = tagged(tags, json!({"mirrors": [{"cluster": "shadow"}]}));
    let spans = told(&mut world, sampled("find").with("user", "ada"));
    assert_eq!(spans.len(), 2, "the copy has one too");
    for span in spans {
        let wanted = [("zone", "eu"), ("user", "ada"), ("what", "find"), ("nobody", ""), ("default", "none")];
        for (name, wanted) in wanted {
            assert_eq!(span.of(name), wanted, "{name}");
        }
        assert_eq!(span.of("from"), span.of("client.address"));
        assert!(!span.of("from").is_empty() && !span.attributes.contains_key("nobody"));
    }
}

#[test]
fn no_tag_has_the_name_of_what_spans_say_anyway() {
    let retry = json!({"attempts": 1, "on": ["status"], "statuses": [THREADPOOL_EXHAUSTED]});
    let mut world = tagged(json!({}), json!({"retry": retry, "mirrors": [{"cluster": "shadow"}]}));
    world.serve(|_, _| What::Error(THREADPOOL_EXHAUSTED).now());
    let spans = told(&mut world, sampled("find"));
    let names: BTreeSet<&String> = spans.iter().flat_map(|span| span.attributes.keys()).collect();
    assert!(names.len() > 10 && names.contains(&"rpc.response.status_code".to_owned()), "{names:?}");
    for name in names {
        let tags = json!({name: {"value": "a"}});
        let plan = json!({"services": {"demo": {"protocol": "dubbo", "tracing": {"tags": tags}}}});
        let error = Plan::parse(plan.to_string().as_bytes(), &Codecs::all()).unwrap_err();
        assert!(error.to_string().contains("that all spans have"), "{error}");
    }
}

#[test]
fn what_clients_write_into_tags_is_bounded_text() {
    let names: Vec<String> = (0..32).map(|number| format!("t{number}")).collect();
    let tags = names.iter().map(|name| (name.clone(), json!({"attribute": "user"}))).collect();
    let mut world = tagged(Value::Object(tags), json!({}));
    let long = "é".repeat(10_000);
    let spans = told(&mut world, sampled("find").with("user", &format!("a\r\n\0{long}")));
    for name in &names {
        assert_eq!(spans[0].of(name), format!("a{}", "é".repeat(127)), "{name}");
    }
    // Many of them are sent in batches that collectors take.
    let client = world.connect();
    for _ in 0..100 {
        world.call_and_wait(client, sampled("find").with("user", &long));
    }
    world.run_for(2 * SECOND);
    assert_eq!((count(&mut world, "exported"), count(&mut world, "full")), (101, 0));
}

#[test]
fn collectors_are_told_the_headers_of_the_plan() {
    let headers = json!({"Authorization": "Bearer x", "x-tenant": "a"});
    let wanted = [("authorization", "Bearer x"), ("x-tenant", "a")];
    let tracing = json!({"sampling": 0, "collector": "collector", "headers": headers});
    let mut world = world(json!({"tracing": tracing}));
    assert_eq!(told(&mut world, sampled("find")).len(), 1);
    let by_grpc = &world.limiter.asked[0].fields;
    let world = posted(headers);
    let by_http = &world.manager.posted[0].fields;
    for (name, value) in wanted {
        for fields in [by_grpc, by_http] {
            let of = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value);
            assert_eq!(of.collect::<Vec<_>>(), [value], "{name}");
        }
    }
}
