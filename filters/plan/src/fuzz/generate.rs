//! Plans and requests made of any bytes, few of which make many routes and attachments: all that makes a search long.
use meltemi_codecs::dubbo::message::{Request, Value as Argument};
use serde_json::{Value, json};

use meltemi_codecs::fuzz::Choices;

/// A plan of one Dubbo service, `demo`.
pub(super) fn plan(choices: &mut Choices<'_>) -> Value {
    let mut routes = Vec::new();
    for _ in 0..choices.below(4) {
        add_routes(choices, &mut routes);
    }
    json!({"services": {"demo": {"protocol": "dubbo", "routes": routes}}})
}

/// Adds routes that are like each other, but for a number in their texts.
fn add_routes(choices: &mut Choices<'_>, routes: &mut Vec<Value>) {
    let count: usize = choices.one_of(&[1, 3, 12, 40, 120]);
    let templates: Vec<Template> = (0..=choices.below(3)).map(|_| Template::new(choices)).collect();
    let alternatives = choices.one_of(&[1, 1, 1, 3]);
    let rejects = choices.below(8) == 0;
    for number in 0..count {
        let alternative = |alternative: usize| {
            let matchers = templates.iter().map(|template| template.matcher(number + alternative));
            json!({"attributes": matchers.collect::<serde_json::Map<_, _>>()})
        };
        let mut route = json!({
            "name": format!("route-{}", routes.len()),
            "match": (0..alternatives).map(alternative).collect::<Vec<_>>(),
        });
        if let (true, Some(route)) = (rejects, route.as_object_mut()) {
            route.insert("reject".to_owned(), json!({}));
        }
        routes.push(route);
    }
}

/// A matcher with a place for a number.
struct Template {
    /// How many attributes it is about, in turn.
    names: usize,
    name: usize,
    kind: usize,
    is_inverted: bool,
    /// Every so many numbers the texts repeat.
    texts: usize,
}

impl Template {
    fn new(choices: &mut Choices<'_>) -> Self {
        Self {
            names: choices.one_of(&[1, 1, 4, 20, 200]),
            name: choices.below(6),
            kind: choices.below(16),
            is_inverted: choices.below(8) == 0,
            texts: choices.one_of(&[1, 1, 4, 200]),
        }
    }

    fn matcher(&self, number: usize) -> (String, Value) {
        let name = name(self.name + number % self.names);
        let n = number % self.texts;
        let mut matcher = match self.kind {
            0..=3 => json!({"exact": text(n)}),
            4 => json!({"exact": "a".repeat(n)}),
            5 => json!({"prefix": text(n)}),
            6 | 7 => json!({"prefix": "a".repeat(n + 1)}),
            8 => json!({"suffix": text(n)}),
            9 => json!({"contains": text(n)}),
            10 => json!({"contains": format!("{}b", "a".repeat(n + 1))}),
            11 => json!({"regex": format!(".*{}", text(n))}),
            12 => {
                json!({"regex": format!("(a|v|aa|[a-z]{{1,{}}})*b?", n % 20 + 1)})
            }
            13 => json!({"regex": format!("(a?){{{}}}a*", n % 20)}),
            14 => json!({"range": {"start": n, "end": n + 2}}),
            _ => json!({"present": n.is_multiple_of(2)}),
        };
        if let (true, Some(matcher)) = (self.is_inverted, matcher.as_object_mut()) {
            matcher.insert("invert".to_owned(), true.into());
        }
        (name, matcher)
    }
}

/// The names that rules ask for and calls have.
fn name(number: usize) -> String {
    match number {
        0 => "interface".to_owned(),
        1 => "method".to_owned(),
        2 => "parameterTypes".to_owned(),
        3 => "source.ip".to_owned(),
        number => format!("k{number}"),
    }
}

fn text(number: usize) -> String {
    format!("v{number}")
}

/// A Dubbo request.
pub(super) fn request(choices: &mut Choices<'_>) -> Vec<u8> {
    let (interface, method) = (value(choices, 0), value(choices, 1));
    let mut attachments = Vec::new();
    for _ in 0..choices.below(4) {
        let count: usize = choices.one_of(&[1, 5, 30, 100, 250, 300]);
        let first = choices.below(8);
        let names = choices.one_of(&[1, 4, 300, 300]);
        let kind = choices.byte();
        for number in 0..count {
            // Large texts are rarely many.
            let mut kind = Choices(core::slice::from_ref(&kind));
            attachments.push((name(first + number % names), value(&mut kind, number)));
        }
    }
    let attachments: Vec<_> = attachments.iter().map(|(name, value)| (&**name, &**value)).collect();
    let arguments: Vec<Argument<'_>> = (0..choices.below(3)).map(|_| "x".into()).collect();
    let mut bytes = Vec::new();
    Request {
        interface: &interface,
        method: &method,
        arguments: &arguments,
        attachments: &attachments,
        ..Request::default()
    }
    .write(&mut bytes);
    // Now and then what no program would write.
    if choices.below(8) == 0 {
        let place = choices.below(256) * choices.below(256);
        if let Some(byte) = bytes.get_mut(place).filter(|_| place > 16) {
            *byte = choices.byte();
        }
    }
    bytes
}

fn value(choices: &mut Choices<'_>, number: usize) -> String {
    match choices.below(16) {
        0 | 1 => "v0".to_owned(),
        2..=5 => text(number),
        6 => number.to_string(),
        7 => "0".repeat(512),
        8 => "a".repeat(number),
        9 => "a".repeat(500),
        10 => "a".repeat(512),
        11 => format!("{}b", "a".repeat(511)),
        12 => format!("{}é", "aé".repeat(100)),
        13 => "a".repeat(513),
        14 => "a".repeat(5000),
        _ => String::new(),
    }
}
