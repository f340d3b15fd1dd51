use meltemi_codecs::inspect::{Reading, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What is reported of one frame, as a JSON object. What a frame does not have is left out.
pub struct Record<'a>(pub &'a Reading);

struct Code<'a>(&'a Value);

/// Names and values in the order of the wire.
struct Pairs<'a>(&'a [(String, String)]);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Reading { kind, id, outcome, status, length, fields, attributes, attachments, body } = self.0;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("id", id)?;
        if let Some(outcome) = outcome {
            map.serialize_entry("outcome", outcome)?;
        }
        if let Some(status) = status {
            map.serialize_entry("status", &Code(status))?;
        }
        map.serialize_entry("length", length)?;
        for (name, value) in fields {
            map.serialize_entry(name, &Code(value))?;
        }
        for (name, pairs) in [("attributes", attributes), ("attachments", attachments)] {
            if !pairs.is_empty() {
                map.serialize_entry(name, &Pairs(pairs))?;
            }
        }
        if let Some(body) = body {
            map.serialize_entry("body", body)?;
        }
        map.end()
    }
}

impl Serialize for Code<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Name(name) => to.serialize_str(name),
            Value::Number(number) => to.serialize_u64(*number),
        }
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
