use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

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
    /// Its length as JSON.
    pub(super) bytes: usize,
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

    /// The field of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.get(name),
            Self::Part(_) | Self::List(_) => None,
        }
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
            Self::Part(part) => part.value().serialize(serializer),
            Self::List(items) => items.serialize(serializer),
            Self::Map(fields) => serializer.collect_map(fields.iter().map(|(name, field)| (&**name, field))),
        }
    }
}

impl Part {
    /// What is shared.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl From<Value> for Part {
    fn from(value: Value) -> Self {
        let bytes = value.to_string().len();
        Self { value: Arc::new(value), bytes }
    }
}
