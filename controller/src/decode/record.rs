use serde::{Serialize, Serializer};

/// What is reported of one frame. The fields come in this order, and what a frame does not have is left out.
#[derive(Debug, Default, Serialize)]
pub struct Record {
    /// What the frame is: `request`, `response`, `one-way`, `heartbeat-request`, `heartbeat-response` or `event`.
    pub kind: &'static str,
    /// The request id.
    pub id: u64,
    /// The response's status: its name, or its number if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Code>,
    /// Length of the whole frame in bytes.
    pub length: usize,
    /// How the body is written.
    pub serialization: Code,
    /// What the protocol says of the call.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub attributes: Pairs,
    /// What the caller added to it.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub attachments: Pairs,
}

/// A code of the protocol: by its name if it has one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Code {
    /// The name.
    Name(&'static str),
    /// The number.
    Number(u32),
}

impl Code {
    /// The code `number`, named `name`.
    pub fn new(name: Option<&'static str>, number: u32) -> Self {
        name.map_or(Self::Number(number), Self::Name)
    }
}

impl Default for Code {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Names and values in the order of the wire, written as a JSON object.
#[derive(Debug, Default)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
