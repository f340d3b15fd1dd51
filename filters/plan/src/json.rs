use core::{fmt, ops::Deref};
use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// A JSON document in memory, with whatever keys it has, in its own order. What has no escapes is where the text has it.
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// An integer from zero up.
    Unsigned(u64),
    /// An integer below zero.
    Signed(i64),
    /// Any other number.
    Float(f64),
    String(Text<'a>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Text<'a>, Json<'a>)>),
}

/// A string of a document.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Text<'a>(Cow<'a, str>);

/// Integers beyond this do not all have a floating point number of their own.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'a> Json<'a> {
    /// An integer that is written as a floating point number is an integer: Envoy's configuration holds all numbers
    /// that way, and may write them so.
    fn number(number: f64) -> Self {
        match number {
            _ if number.fract() != 0.0 || number.abs() > EXACT => Json::Float(number),
            _ if number < 0.0 => Json::Signed(number as i64),
            _ => Json::Unsigned(number as u64),
        }
    }

    /// The first member of a name, of an object that has it.
    pub(super) fn member(&mut self, name: &str) -> Option<&mut Json<'a>> {
        self.members().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All members, of an object.
    pub(super) fn members(&mut self) -> impl Iterator<Item = (&str, &mut Json<'a>)> {
        let members = if let Json::Object(members) = self { &mut **members } else { &mut [] };
        members.iter_mut().map(|(key, value)| (&**key, value))
    }

    /// What it is, for errors.
    pub(super) fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Json::Null => Unexpected::Unit,
            Json::Bool(value) => Unexpected::Bool(*value),
            Json::Unsigned(value) => Unexpected::Unsigned(*value),
            Json::Signed(value) => Unexpected::Signed(*value),
            Json::Float(value) => Unexpected::Float(*value),
            Json::String(value) => Unexpected::Str(value),
            Json::Array(_) => Unexpected::Seq,
            Json::Object(_) => Unexpected::Map,
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(value.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::number(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Json<'de>, E> {
        TextVisitor.visit_borrowed_str(value).map(Json::String)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json<'de>, E> {
        TextVisitor.visit_str(value).map(Json::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Json<'de>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}
