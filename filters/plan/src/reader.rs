//! Reads the raw types out of a document and knows at every step where in it that is.
//!
//! Stricter than reading them from text would be: an array is never taken for an object, and no key occurs twice.
use core::{fmt, slice};

use rustc_hash::FxHashMap;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
    value::{SeqAccessDeserializer, StrDeserializer},
};

use super::{
    PlanError,
    error::Path,
    json::{Json, Text},
};

/// A value of the document and its place.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    value: &'a Json<'a>,
    path: &'a Path<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(value: &'a Json<'a>, path: &'a Path<'a>) -> Self {
        Self { value, path }
    }

    fn unexpected(self, expected: &dyn Expected) -> Fault {
        let found = match self.value.unexpected() {
            Unexpected::Str(_) if self.path.is_secret() => Unexpected::Other("a string"),
            Unexpected::Unsigned(_) | Unexpected::Signed(_) if self.path.is_secret() => {
                Unexpected::Other("a number")
            }
            found => found,
        };
        Fault::invalid_type(found, expected).or_at(self.path)
    }

    /// What the visitor made of the value.
    fn placed<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| fault.or_at(self.path))
    }

    fn members(self) -> Result<Members<'a>, Fault> {
        let Json::Object(members) = self.value else { return Err(self.unexpected(&"an object")) };
        match duplicate(members) {
            Some(key) => {
                Err(Fault::custom(format_args!("duplicate {key:?}; keep one of the two")).or_at(self.path))
            }
            None => Ok(Members { path: self.path, members: members.iter(), current: None }),
        }
    }
}

/// A key that occurs twice. Few are compared with each other, which takes no memory.
fn duplicate<'a>(members: &'a [(Text<'a>, Json<'a>)]) -> Option<&'a str> {
    if members.len() < 2 {
        return None;
    }
    let mut keys = FxHashMap::default();
    let mut is_known = |number: usize, key: &'a str| match members.len() {
        0..=FEW => members.iter().take(number).any(|(other, _)| **other == *key),
        _ => keys.insert(key, number).is_some(),
    };
    let mut all = members.iter().map(|(key, _)| &**key).enumerate();
    all.find(|(number, key)| is_known(*number, key)).map(|(_, key)| key)
}

/// Keys that are compared with each other.
const FEW: usize = 8;

/// A value that cannot be read. The first to learn of it that knows where it is says so.
///
/// In a box, since whatever reads a value hands it on.
#[derive(Debug)]
pub(super) struct Fault(Box<Told>);

#[derive(Debug)]
struct Told {
    path: Option<String>,
    message: String,
}

impl Fault {
    #[inline(never)]
    fn or_at(mut self, path: &Path<'_>) -> Self {
        self.0.path.get_or_insert_with(|| path.to_string());
        self
    }
}

impl Error for Fault {
    #[inline(never)]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(Told { path: None, message: message.to_string() }))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // Not what `Unexpected` prints by itself, for that brings the printing of fractions into the module.
        match found {
            Unexpected::Bool(value) => Self::custom(format_args!("expected {expected}, found {value}")),
            Unexpected::Unsigned(value) => Self::custom(format_args!("expected {expected}, found {value}")),
            Unexpected::Signed(value) => Self::custom(format_args!("expected {expected}, found {value}")),
            Unexpected::Float(_) => Self::custom(format_args!("expected {expected}, found a fraction")),
            Unexpected::Str(value) => Self::custom(format_args!("expected {expected}, found {value:?}")),
            Unexpected::Unit => Self::custom(format_args!("expected {expected}, found null")),
            Unexpected::Seq => Self::custom(format_args!("expected {expected}, found an array")),
            Unexpected::Map => Self::custom(format_args!("expected {expected}, found an object")),
            Unexpected::Other(kind) => Self::custom(format_args!("expected {expected}, found {kind}")),
            _ => Self::custom(format_args!("expected {expected}")),
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl core::error::Error for Fault {}

impl From<Fault> for PlanError {
    fn from(fault: Fault) -> Self {
        let Told { path, message } = *fault.0;
        Self { path: path.unwrap_or_default(), message, position: None }
    }
}

/// The methods for kinds that no raw type has.
macro_rules! by_content {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.deserialize_any(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    by_content! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_u8 deserialize_u16 deserialize_u64 deserialize_f32
        deserialize_f64 deserialize_char deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::Null => self.placed(visitor.visit_unit()),
            Json::Bool(_) => self.deserialize_bool(visitor),
            Json::Unsigned(value) => self.placed(visitor.visit_u64(*value)),
            Json::Signed(value) => self.placed(visitor.visit_i64(*value)),
            Json::Float(value) => self.placed(visitor.visit_f64(*value)),
            Json::String(_) => self.deserialize_str(visitor),
            Json::Array(_) => self.deserialize_seq(visitor),
            Json::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::Bool(value) => self.placed(visitor.visit_bool(*value)),
            _ => Err(self.unexpected(&"true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::Unsigned(value) if u32::try_from(*value).is_ok() => self.placed(visitor.visit_u64(*value)),
            _ => Err(self.unexpected(&"an integer from 0 to 4294967295")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::Unsigned(value) if i64::try_from(*value).is_ok() => self.placed(visitor.visit_u64(*value)),
            Json::Signed(value) => self.placed(visitor.visit_i64(*value)),
            _ => Err(self.unexpected(&"an integer of 64 bits")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::String(value) => self.placed(visitor.visit_str(value)),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Json::Array(elements) => self.placed(visitor.visit_seq(Elements {
                path: self.path,
                elements: elements.iter(),
                next: 0,
            })),
            _ => Err(self.unexpected(&"an array")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.placed(visitor.visit_map(self.members()?))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Json::String(value) => self.placed(visitor.visit_enum((**value).into_deserializer())),
            _ => Err(self.unexpected(&"a string")),
        }
    }
}

/// Reads a part of an array that is at `path`: the elements from the one with number `first` on.
pub(super) fn elements<'de, T: Deserialize<'de>>(
    part: &[Json<'_>],
    first: usize,
    path: &Path<'_>,
) -> Result<Vec<T>, Fault> {
    let elements = Elements { path, elements: part.iter(), next: first };
    Vec::deserialize(SeqAccessDeserializer::new(elements))
}

struct Elements<'a> {
    path: &'a Path<'a>,
    elements: slice::Iter<'a, Json<'a>>,
    /// The number of the next.
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(value) = self.elements.next() else { return Ok(None) };
        let path = self.path.index(self.next);
        self.next = self.next.saturating_add(1);
        seed.deserialize(Reader::new(value, &path)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

struct Members<'a> {
    path: &'a Path<'a>,
    members: slice::Iter<'a, (Text<'a>, Json<'a>)>,
    /// The one whose key was read last.
    current: Option<&'a (Text<'a>, Json<'a>)>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.members.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let from: StrDeserializer<'_, Fault> = (**key).into_deserializer();
        seed.deserialize(from).map(Some).map_err(|fault| fault.or_at(&self.path.key(key)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.current else { return Err(Fault::custom("a value without a key")) };
        seed.deserialize(Reader::new(value, &self.path.key(key)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}
