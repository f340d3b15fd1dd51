//! Layouts that contradict themselves, and what becomes of a layout from plan to plan.
use serde_json::{Value, json};

use super::*;

fn layout() -> Value {
    json!({
        "magic": "4142",
        "length": {"at": 2, "as": "u16"},
        "id": {"at": 4, "as": "u32"},
        "kind": {"at": 8, "as": "u8", "request": 0, "response": 1, "heartbeat": 2, "heartbeatReply": 3},
        "status": {"at": 9, "as": "u8"},
        "parts": [
            {"name": "meta", "length": {"at": 10, "as": "u16"}, "form": "protobuf"},
            {"name": "tags", "prefix": "u8", "form": "tlv"},
            {"name": "rest"}
        ],
        "attributes": {"method": {"in": "meta", "path": "1"}},
        "errorReply": {"frame": "4142 {frame:u16} {id:u32} 01 {status:u8} 0000 {text}", "status": 9},
        "heartbeatReply": "4142 {frame:u16} {id:u32} 03 00 0000"
    })
}

fn plan_of(layout: &Value) -> Value {
    json!({"protocols": {"own": layout}, "services": {"demo": {"protocol": "own"}}})
}

/// What is said of a layout in which the member at a path, a JSON pointer, is another value; null removes it.
fn refuse(pointer: &str, value: Value) -> String {
    let mut layout = layout();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = if parent.is_empty() { &mut layout } else { layout.pointer_mut(parent).unwrap() };
    match parent {
        Value::Array(elements) => elements[key.parse::<usize>().unwrap()] = value,
        Value::Object(members) if value.is_null() => drop(members.remove(key)),
        Value::Object(members) => drop(members.insert(key.to_owned(), value)),
        other => panic!("{other}"),
    }
    let error = parse(&plan_of(&layout)).map(drop).expect_err(&layout.to_string()).to_string();
    error.strip_prefix("protocols.own").unwrap_or(&error).to_owned()
}

#[test]
fn a_layout_carries_a_trace_where_it_says_so() {
    let mut plan = plan_of(&layout());
    plan["services"]["demo"]["tracing"] = json!({});
    let message = "services[\"demo\"].tracing: requests of own do not say their trace; declare an attribute \"traceparent\" or \
                   \"b3\", or leave it out";
    assert_eq!(parse(&plan).unwrap_err().to_string(), message);
    // Of several protocols, those that can carry it do.
    plan["services"]["demo"]["protocol"] = json!("auto");
    let traced = |plan: &Value| {
        let plan = parse(plan).unwrap();
        let services = plan.candidates("demo");
        let traced = services.map(|service| {
            let routes_write = service.default_route.request_edit.writes_trace;
            (service.codec.name().to_owned(), service.tracing.is_some(), routes_write, service.depth)
        });
        traced.collect::<Vec<_>>()
    };
    let of = |name: &str, is_traced, writes, depth| (name.to_owned(), is_traced, writes, depth);
    let toy = || of("toy", true, true, Depth::Attachments);
    assert_eq!(traced(&plan), [toy(), of("own", false, false, Depth::Operation)]);
    // It is read where it is declared, and written nowhere.
    for name in ["traceparent", "b3", "x-b3-traceid"] {
        plan["protocols"]["own"]["attributes"][name] = json!({"in": "meta", "path": "2"});
        assert_eq!(traced(&plan), [toy(), of("own", true, false, Depth::Head)], "{name}");
        plan["protocols"]["own"]["attributes"].as_object_mut().unwrap().remove(name);
    }
    plan["protocols"]["own"]["attributes"]["b3"] = json!({"in": "tags", "path": "7"});
    plan["services"]["demo"]["protocol"] = json!("own");
    assert_eq!(traced(&plan), [of("own", true, false, Depth::Head)]);
}

#[test]
fn what_limits_calls_limits_those_of_every_protocol_of_a_port() {
    let breaker = json!({"circuitBreaker": {"maxCalls": 5}});
    for (upstream, most, is_asked) in
        [(json!({}), None, false), (breaker, None, true), (json!({}), Some(7), true)]
    {
        let mut plan = plan_of(&layout());
        plan["services"]["demo"]["protocol"] = json!("auto");
        plan["services"]["demo"]["upstream"] = upstream;
        if let Some(most) = most {
            plan["maxCalls"] = json!(most);
        }
        let plan = parse(&plan).unwrap();
        let asked: Vec<_> = plan.candidates("demo").map(|service| service.asks_cluster).collect();
        assert_eq!(asked, [is_asked; 2]);
    }
}

#[test]
fn a_layout_that_contradicts_itself_is_refused_at_its_field() {
    assert!(parse(&plan_of(&layout())).is_ok());
    for (pointer, value, message) in [
        (
            "/magic",
            json!("4g"),
            ".magic: \"4g\" is not bytes in hexadecimal, such as \"dabb\"; write two digits for each",
        ),
        ("/magic", json!("414243444546474849"), ".magic: 9 bytes; write the first 8 at most"),
        ("/magic", json!(""), ".magic: no bytes; leave it out if frames have none"),
        (
            "/id/at",
            json!(3),
            ".length: bytes 2 to 4 overlap protocols.own.id, which has 3 to 7; move one of the two",
        ),
        (
            "/header",
            json!(11),
            ".header: ends before protocols.own.parts[0].length does, at 12; write 12 at least, or leave it out",
        ),
        (
            "/length",
            Value::Null,
            ".parts[2]: nothing says where it ends; write \"bytes\", \"length\" or \"prefix\", or the frame's \"length\"",
        ),
        (
            "/length/as",
            json!("u17"),
            ".length.as: \"u17\" is no way to write a number; write u8, u16, u24, u32 to u64, one of these with \"le\", or varint",
        ),
        ("/id/as", json!("varint"), ".id.as: only a length may be a varint in the header; write u8 to u64"),
        (
            "/id/path",
            json!("1"),
            ".id: no place; write \"at\" and \"as\" for the header, or \"in\" and \"path\" for a part, and not both",
        ),
        (
            "/id",
            json!({"in": "tags", "path": "1"}),
            ".id.in: \"tags\" is no protobuf, and other forms have attributes alone; name a place in the header or in protobuf",
        ),
        (
            "/id",
            json!({"in": "head", "path": "1"}),
            ".id.in: no part is named \"head\"; write one of \"meta\", \"tags\", \"rest\"",
        ),
        (
            "/id",
            json!({"in": "meta", "path": "0"}),
            ".id.path: \"0\" is no path in protobuf; write up to 8 numbers of fields, such as \"2.1\"",
        ),
        (
            "/sharing",
            json!("all"),
            ".sharing: unknown variant `all`, expected one of `shared`, `in-order`, `exclusive`",
        ),
        (
            "/kind/response",
            json!(0),
            ".kind.response: 0 is the value of another kind already; keep one of the two",
        ),
        ("/kind/response", json!(256), ".kind.response: 256 does not fit the field; its largest is 255"),
        ("/kind/mask", json!(1), ".kind.heartbeat: 2 has bits that are not in \"mask\", and so never occurs"),
        (
            "/status/exception",
            json!([0]),
            ".status.exception: 0 is a success already; keep it in one of the two",
        ),
        (
            "/attributes/method",
            json!({"in": "rest"}),
            ".attributes.method.in: the part's form has nothing in it to be found; write json, protobuf, pairs, map or tlv for it",
        ),
        (
            "/attributes/method",
            json!({"in": "tags"}),
            ".attributes.method.path: is no tag; write its number, such as \"5\"",
        ),
        (
            "/attributes/method",
            json!({"at": 2}),
            ".attributes.method: write \"as\" for a number, or \"bytes\" for text, and not both",
        ),
        ("/method", json!("command"), ".method: \"command\" is no attribute; declare it, or name another"),
        ("/parts/0/size", json!("u8"), ".parts[0].size: means nothing for this form; remove it"),
        (
            "/parts/1",
            json!({"name": "meta", "prefix": "u8"}),
            ".parts[1].name: \"meta\" is the name of another part already; choose another",
        ),
        (
            "/errorReply/frame",
            json!("4142 {frame:u16} {id:u32} 01 {status:u8} 0000 {who}"),
            ".errorReply.frame: {who} is nothing that can be filled in; write {id:u32}, {status:u16}, {text}, {frame:u32} or {rest:u32-4}",
        ),
        (
            "/errorReply/frame",
            json!("4142 {rest:u16} {id:u32} 01 {status:u8} 0000 {text}"),
            ".errorReply.frame: cannot be read by the layout itself; write an answer with a status that is no success, each field where the layout has it",
        ),
        // A few letters that would be many bytes.
        (
            "/errorReply/frame",
            json!(format!("4142 {{frame:u16}} {{id:u32}} 01 {{status:u8}} 0000 {}", "{rest:u8}".repeat(9))),
            ".errorReply.frame: has 9 times {rest}; write at most 8",
        ),
        (
            "/errorReply/status",
            json!(0),
            ".errorReply.frame: is read as another kind of frame; write an answer with a status that is no success, each field where the layout has it",
        ),
        (
            "/heartbeatReply",
            json!("4142 {frame:u16} 00000000 03 00 0000"),
            ".heartbeatReply: has another id than the request; write the answer to a heartbeat, each field where the layout has it",
        ),
        (
            "/drainNotice",
            json!("4142 0000"),
            ".drainNotice: is shorter than its length says; write a frame of the kind \"drain\", with the id 0, each field where the layout has it",
        ),
    ] {
        assert_eq!(refuse(pointer, value), message);
    }
}

#[test]
fn a_layout_is_refused_that_cannot_change_ids() {
    let mut deep = layout();
    deep["id"] = json!({"in": "meta", "path": "2.1"});
    deep.as_object_mut().unwrap().remove("errorReply");
    deep.as_object_mut().unwrap().remove("heartbeatReply");
    let refuse = |change: &dyn Fn(&mut Value)| {
        let mut layout = deep.clone();
        change(&mut layout);
        parse(&plan_of(&layout)).map(drop).expect_err(&layout.to_string()).to_string()
    };
    assert!(parse(&plan_of(&deep)).is_ok());
    for (change, message) in [
        (
            (&|layout: &mut Value| {
                layout["parts"][0] = json!({"name": "meta", "prefix": "u8", "form": "protobuf"})
            }) as &dyn Fn(&mut Value),
            ".id: another id changes the length of \"meta\", which must be in the header; write \"length\" for the part",
        ),
        (
            &|layout| layout["status"] = json!({"in": "meta", "path": "2"}),
            ".status: protocols.own.id has the same place, or is in it; write another path for one of the two",
        ),
        (
            &|layout| layout["length"]["plus"] = json!(40),
            ".length.plus: is more than the header's 12 bytes, and another id may leave fewer; write what the length leaves out",
        ),
        (
            &|layout| {
                layout.as_object_mut().unwrap().remove("id");
                layout["sharing"] = json!("shared");
            },
            ".sharing: answers that come in any order are known by an id; write \"id\", or \"in-order\"",
        ),
    ] {
        assert_eq!(refuse(change), format!("protocols.own{message}"));
    }
}

#[test]
fn a_layout_has_a_name_that_no_codec_has() {
    let plan = json!({"protocols": {"toy": layout()}});
    let error = parse(&plan).map(drop).unwrap_err().to_string();
    assert_eq!(error, "protocols.toy: the module has a codec of that name; choose another");
    let plan = json!({"protocols": {"own": layout()}, "services": {"demo": {"protocol": "other"}}});
    let error = parse(&plan).map(drop).unwrap_err().to_string();
    let expected =
        "services[\"demo\"].protocol: unknown protocol \"other\"; this module knows \"toy\", \"own\"";
    assert_eq!(error, expected);
}

#[test]
fn the_next_plan_finds_the_same_layout_again() {
    let codecs = codecs();
    let read = |layout: &Value| Plan::parse(plan_of(layout).to_string().as_bytes(), &codecs).unwrap();
    let first = read(&layout());
    let mut plan = plan_of(&layout());
    plan["services"]["demo"]["defaultRoute"] = json!({"timeout": "3s"});
    let second = Plan::parse(plan.to_string().as_bytes(), &codecs.clone()).unwrap();
    let mut other = layout();
    other["status"]["success"] = json!([1]);
    let third = read(&other);
    let service = |plan: &Plan| plan.service("demo").unwrap().clone();
    assert!(service(&first).has_protocol_of(&service(&second)));
    assert!(!service(&first).has_protocol_of(&service(&third)));
    // What nobody uses any more is forgotten, and declared anew.
    drop((first, second, third));
    assert_eq!(service(&read(&layout())).codec.name(), "own");
}
