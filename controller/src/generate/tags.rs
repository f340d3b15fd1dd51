//! What spans say beside what all do: the custom tags of Istio's resources.

use std::collections::BTreeMap;

use meltemi_proxy::plan::{SpanFormat, check_tag, raw};
use serde_json::Value;

use super::collector::Place;
use super::report::Reports;

/// A tag: its name, the attribute of the call whose value it has, and its value without that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tag {
    name: String,
    attribute: Option<String>,
    value: Option<String>,
}

/// The most that a plan takes.
const MOST: usize = 32;

impl Tag {
    /// The same in a plan.
    pub(super) fn entry(&self) -> (String, raw::Tag) {
        let Self { name, attribute, value } = self.clone();
        (name, raw::Tag { attribute, value })
    }

    /// A tag as resources have it, of spans in a format.
    ///
    /// # Errors
    ///
    /// It cannot be in force: why not.
    fn new(name: &str, custom: &Value, format: SpanFormat) -> Result<Self, String> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (attribute, value) = match custom.as_object().and_then(|kinds| kinds.iter().next()) {
            Some((kind, literal)) if kind == "literal" => (None, text(&literal["value"])),
            Some((kind, header)) if kind == "header" => {
                (Some(text(&header["name"]).unwrap_or_default()), text(&header["defaultValue"]))
            }
            Some((kind, formatter)) if kind == "formatter" => {
                let attribute = text(&formatter["value"]).and_then(|format| attribute(&format));
                (Some(attribute.ok_or("a formatter is one operator, as %REQ(user)%")?), None)
            }
            Some((kind, _)) if kind == "environment" => {
                return Err(
                    "the module is not told the environment of its proxy; write literal or header".into()
                );
            }
            _ => return Err("is of no kind that is known; write literal or header".into()),
        };
        if let Some(name) = attribute.as_ref().filter(|name| name.starts_with(':')) {
            return Err(format!("{name:?} is of HTTP; name an attribute of the call, such as method"));
        }
        let tag = Self { name: name.to_owned(), attribute, value };
        let (name, raw) = tag.entry();
        check_tag(&name, &raw, format).map(|()| tag)
    }
}

/// The attribute that a format of Envoy's stands for, if it is one operator.
fn attribute(format: &str) -> Option<String> {
    let name = format.strip_prefix("%REQ(")?.strip_suffix(")%")?;
    (!name.contains(['%', '?', '(', ')'])).then(|| name.to_owned())
}

/// The tags that can be in force in spans of a format. Says which cannot.
pub(super) fn tags(
    (origin, path): &Place,
    custom: &BTreeMap<String, Value>,
    format: SpanFormat,
    reports: &mut Reports,
) -> Vec<Tag> {
    let mut tags = Vec::new();
    for (name, custom) in custom {
        let tag = Tag::new(name, custom, format).and_then(|tag| match tags.len() < MOST {
            true => Ok(tag),
            false => Err(format!("there are more than {MOST}")),
        });
        match tag {
            Ok(tag) => tags.push(tag),
            Err(why) => {
                let message = format!("spans of managed protocols have no tag {name:?}: {why}");
                reports.not_honoured(origin, path.as_str(), message);
            }
        }
    }
    tags
}
