use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::origin::Origin;

/// JSON whose parts are shared: what is said of a service is in the objects of every namespace that sees it, and is
/// there once.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// A part that others may have too.
    Part(Part),
    /// An array.
    List(Vec<Tree>),
    /// An object.
    Map(BTreeMap<Arc<str>, Tree>),
}

/// A value that is shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    value: Arc<Value>,
    /// What is written in its place.
    packed: Option<Arc<str>>,
    /// How much of an object it takes up, in bytes.
    pub(super) weight: usize,
    origins: Arc<[Origin]>,
}

impl Tree {
    /// The fields of the object `own`, and one more.
    pub(super) fn with(own: Value, name: &str, field: Self) -> Self {
        let own = match own {
            Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self::Map(own.chain([(name.into(), field)]).collect())
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        Self::Part(value.into())
    }
}

impl fmt::Display for Tree {
    /// Writes JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Part(Part { packed: Some(text), .. }) => text.serialize(serializer),
            Self::Part(part) => part.value().serialize(serializer),
            Self::List(items) => items.serialize(serializer),
            Self::Map(fields) => serializer.collect_map(fields.iter().map(|(name, field)| (&**name, field))),
        }
    }
}

impl Part {
    /// A value that takes up so much, where it is written as `packed` if there is that.
    pub(super) fn new(value: Value, packed: Option<String>, weight: usize) -> Self {
        Self { value: Arc::new(value), packed: packed.map(Arc::from), weight, origins: Arc::default() }
    }

    /// The same, with the resources that its routes were made of.
    pub(super) fn of_origins(self, origins: Vec<Origin>) -> Self {
        Self { origins: origins.into(), ..self }
    }

    /// The resources that its routes were made of, if it is an entry of a plan.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// What is shared, as it is before it is packed.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl From<Value> for Part {
    fn from(value: Value) -> Self {
        let bytes = value.to_string().len();
        Self::new(value, None, bytes)
    }
}
