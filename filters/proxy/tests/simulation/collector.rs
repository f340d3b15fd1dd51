//! What a collector of spans reads of what it is given, by OTLP.

use std::collections::BTreeMap;

use meltemi_codecs::protobuf::{Field, Fields, Value};

use crate::limiter::Question;

pub const PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A span as it came, its ids in hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub status: u64,
}

impl Span {
    /// The value of an attribute, or nothing.
    pub fn of(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The request of an export by gRPC.
pub fn export(body: &[u8]) -> Question {
    let (prefix, message) = body.split_at(5);
    assert_eq!((prefix[0], &prefix[1..]), (0, &(message.len() as u32).to_be_bytes()[..]));
    Question { spans: spans(message), ..Question::default() }
}

/// The spans of a message.
pub fn spans(message: &[u8]) -> Vec<Span> {
    let [of_resource] = &inner(message, 1)[..] else { panic!("one resource") };
    let [resource] = &inner(of_resource, 1)[..] else { panic!("a resource") };
    assert!(attributes(resource, 1).keys().all(|name| name == "service.name"));
    let [of_scope] = &inner(of_resource, 2)[..] else { panic!("one scope") };
    assert_eq!(text(inner(inner(of_scope, 1)[0], 1)[0]), "meltemi");
    inner(of_scope, 2).into_iter().map(span).collect()
}

fn span(bytes: &[u8]) -> Span {
    let mut span = Span { attributes: attributes(bytes, 9), ..Span::default() };
    for Field { number, value, .. } in Fields::new(bytes).map(Result::unwrap) {
        match (number, value) {
            (1, Value::Bytes(id)) => span.trace = hex(id, 16),
            (2, Value::Bytes(id)) => span.id = hex(id, 8),
            (4, Value::Bytes(id)) => span.parent = hex(id, 8),
            (5, Value::Bytes(name)) => span.name = text(name),
            (6, Value::Varint(kind)) => span.kind = kind,
            (7, Value::Fixed64(time)) => span.start = time,
            (8, Value::Fixed64(time)) => span.end = time,
            (9, _) => {}
            (15, Value::Bytes(status)) => {
                let code = Fields::new(status).map(Result::unwrap).find(|field| field.number == 3);
                span.status = code.unwrap().value.varint().unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    span
}

/// The attributes in a field.
fn attributes(message: &[u8], number: u32) -> BTreeMap<String, String> {
    let pair = |bytes| (text(inner(bytes, 1)[0]), any(inner(bytes, 2)[0]));
    let pairs: Vec<_> = inner(message, number).into_iter().map(pair).collect();
    let unique: BTreeMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(unique.len(), pairs.len(), "{pairs:?}");
    unique
}

/// The only field of a value.
fn any(bytes: &[u8]) -> String {
    let fields: Vec<_> = Fields::new(bytes).map(Result::unwrap).collect();
    match fields[..] {
        [Field { number: 1, value: Value::Bytes(value), .. }] => text(value),
        [Field { number: 3, value: Value::Varint(value), .. }] => value.to_string(),
        _ => panic!("{fields:?}"),
    }
}

fn inner(message: &[u8], number: u32) -> Vec<&[u8]> {
    let fields = Fields::new(message).map(Result::unwrap).filter(|field| field.number == number);
    fields.map(|field| field.value.bytes().unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8], len: usize) -> String {
    assert_eq!(bytes.len(), len);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
