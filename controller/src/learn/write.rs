//! A proposal as YAML: a line for each field, and before it why.

use std::net::SocketAddr;

use meltemi_codecs::layout::Coding;
use meltemi_proxy::plan::raw;
use serde_json::Value;

use super::propose::Proposal;
use crate::plain::Plain;

/// The fields of layouts in the order in which people read them.
const ORDER: [&str; 21] = [
    "name",
    "magic",
    "magicAt",
    "header",
    "length",
    "id",
    "idCopies",
    "kind",
    "at",
    "in",
    "prefix",
    "as",
    "plus",
    "mask",
    "request",
    "oneWay",
    "heartbeat",
    "path",
    "form",
    "separator",
    "size",
];
/// And those that come last.
const LAST: [&str; 7] = ["parts", "response", "attributes", "service", "method", "sharing", "heartbeatReply"];

/// How layouts write a coding.
pub fn coding(coding: Coding) -> String {
    match coding {
        Coding::Big(width) => format!("u{}", width * 8),
        Coding::Little(1) => "u8".to_owned(),
        Coding::Little(width) => format!("u{}le", width * 8),
        Coding::Varint => "varint".to_owned(),
    }
}

/// The fewest frames, and the fewest lengths of them, that make one sure.
const ENOUGH: usize = 8;

/// How sure one can be of what so many of all frames show, which have so many different lengths: what frames of one kind have
/// in common may be chance, however many of them there are.
pub fn sure(count: usize, all: usize, lengths: usize) -> &'static str {
    match count {
        0 => "not seen",
        count if count < all => "likely",
        count if count < ENOUGH => "likely, few frames",
        _ if lengths < ENOUGH => "likely, frames of few lengths",
        _ => "sure",
    }
}

impl Proposal {
    /// The layout as a document, alone or in an ApplicationProtocol of that name.
    pub fn yaml(
        &self,
        server: SocketAddr,
        talks: usize,
        part: Option<&str>,
        others: &[String],
        protocol: Option<&str>,
    ) -> String {
        let Self { proof, frames, bytes, connections, .. } = self;
        let mut text = format!(
            "# Learnt from {connections} of {talks} connections to {server}: {frames} frames, {bytes} bytes.\n"
        );
        text += &format!(
            "# Proven: the layout splits all of them into {} requests, {} one-way requests, {} answers, and {} signs of life \
             with their answers.\n",
            proof.requests, proof.one_way, proof.answers, proof.heartbeats
        );
        if self.layout.id.is_some() {
            text +=
                &format!("# {} of {} answers have their request by the id.\n", proof.paired, proof.answers);
        }
        if let Some(part) = part {
            text += &format!("# Not all: {part}.\n");
        }
        if proof.unread > 0 {
            text += &format!("# {} of {} requests have other parts.\n", proof.unread, proof.calls());
        }
        if self.left_out > 0 {
            text +=
                &format!("# {} connections have frames of another form, and were left out.\n", self.left_out);
        }
        if !others.is_empty() {
            text += &format!("# Not learnt from: connections to {}; --server chooses.\n", others.join(", "));
        }
        for what in &self.missing {
            text += &format!("# Not found: {}.\n", comment(what));
        }
        match protocol {
            None => text + &layout(&self.layout, &self.reasons, ""),
            Some(name) => {
                text += &format!(
                    "apiVersion: meltemi.io/v1alpha1\nkind: ApplicationProtocol\nmetadata:\n  name: {}\nspec:\n  protocol: {}\n  layout:\n",
                    scalar(name),
                    scalar(name)
                );
                text + &layout(&self.layout, &self.reasons, "    ")
            }
        }
    }
}

/// A layout with the reasons for its fields, by their names, each line after `indent`.
fn layout(layout: &raw::Layout, reasons: &[(&str, String)], indent: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(layout) else { return String::new() };
    let mut text = String::new();
    for (name, value) in sorted(&fields) {
        for (_, reason) in reasons.iter().filter(|(of, _)| of == name) {
            text += &format!("{indent}# {name}: {}\n", comment(reason));
        }
        match value {
            Value::Array(items) => {
                text += &format!("{indent}{name}:\n");
                for item in items {
                    text += &format!("{indent}- {}\n", flow(item));
                }
            }
            Value::Object(entries) if name == "attributes" => {
                text += &format!("{indent}{name}:\n");
                for (name, entry) in entries {
                    text += &format!("{indent}  {}: {}\n", scalar(name), flow(entry));
                }
            }
            value => text += &format!("{indent}{name}: {}\n", flow(value)),
        }
    }
    text
}

/// Text that others wrote, in one line.
fn comment(text: &str) -> String {
    Plain(text).to_string()
}

fn sorted(fields: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    let rank = |name: &str| {
        let first = ORDER.iter().position(|known| *known == name);
        let last = LAST.iter().position(|known| *known == name);
        first.unwrap_or(ORDER.len() + last.map_or(0, |place| place + 1))
    };
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_key(|(name, _)| rank(name));
    sorted
}

/// The value of a field. Values that stand for kinds may be bits.
fn field(name: &str, value: &Value) -> String {
    let is_kind = ["mask", "request", "response", "oneWay", "heartbeat", "heartbeatReply"].contains(&name);
    value.as_u64().filter(|_| is_kind).map_or_else(|| flow(value), bits)
}

/// A number that may be bits.
pub fn bits(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

/// A value in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = sorted(fields)
                .into_iter()
                .map(|(name, value)| format!("{name}: {}", field(name, value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// Text that YAML cannot take for anything else.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|char: char| char.is_ascii_alphabetic())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "_.-".contains(char))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&&*text.to_ascii_lowercase());
    if is_plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}
