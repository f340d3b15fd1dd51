use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use crate::place::{Place, Step};

/// A piece of YAML or JSON that knows its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Scalar(Value),
    Sequence(Vec<Node>),
    /// The members, each with the place of its key.
    Mapping(Vec<(String, Place, Node)>),
}

impl Node {
    /// The same as a value. Of a duplicate key, the last one applies.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Sequence(items) => items.iter().map(Node::value).collect(),
            Kind::Mapping(members) => {
                members.iter().map(|(key, _, node)| (key.clone(), node.value())).collect::<Map<_, _>>().into()
            }
        }
    }

    /// The items of a `List` of Kubernetes.
    pub(super) fn list_items(&self) -> Option<&[Node]> {
        let is_list =
            self.member("kind").is_some_and(|(_, kind)| kind.kind == Kind::Scalar(Value::from("List")));
        match self.member("items").filter(|_| is_list).map(|(_, items)| &items.kind) {
            Some(Kind::Sequence(items)) => Some(items),
            _ => None,
        }
    }

    /// Where the steps of a path lead: to the key of a member, or to an element of a sequence. Steps that lead further
    /// than there is anything end at the last place that is there.
    pub(super) fn locate(&self, steps: &[Step]) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in steps {
            let next = match (step, &node.kind) {
                (Step::Index(index), Kind::Sequence(items)) => {
                    items.get(*index).map(|item| (item.place, item))
                }
                (Step::Key(key), Kind::Mapping(_)) => node.member(key),
                _ => None,
            };
            let Some(next) = next else { break };
            (place, node) = next;
        }
        place
    }

    fn member(&self, key: &str) -> Option<(Place, &Node)> {
        let Kind::Mapping(members) = &self.kind else { return None };
        members.iter().rfind(|(name, ..)| name == key).map(|(_, place, node)| (*place, node))
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self { place: place(&spanned), kind: spanned.value }
    }
}

fn place<T>(spanned: &Spanned<T>) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Place { line: number(spanned.referenced.line()), column: number(spanned.referenced.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::<Kind>::deserialize(deserializer).map(Self::from)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Pieces)
    }
}

struct Pieces;

impl<'de> Visitor<'de> for Pieces {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Kind::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut members = Vec::new();
        while let Some((key, node)) = map.next_entry::<Spanned<String>, Node>()? {
            let place = place(&key);
            members.push((key.value, place, node));
        }
        Ok(Kind::Mapping(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::steps;

    const YAML: &str = "\
# comment
spec:
  hosts: [a, 'b']
  routes:
  - name: x
    weight: 5
  - {name: y, share: 0.5, on: true, none: ~}
  texts: &anchor
    \"a.b\": |
      long
  again: *anchor
";

    fn at(path: &str) -> (usize, usize) {
        let node: Node = serde_saphyr::from_str(YAML).unwrap();
        let Place { line, column } = node.locate(&steps(path));
        (line, column)
    }

    #[test]
    fn paths_lead_to_lines() {
        assert_eq!(at("spec.hosts"), (3, 3));
        assert_eq!(at("spec.hosts[1]"), (3, 14));
        assert_eq!(at("spec.routes[0].weight"), (6, 5));
        assert_eq!(at("spec.routes[1]"), (7, 5));
        assert_eq!(at("spec.routes[1].share"), (7, 15));
        assert_eq!(at("spec.texts[\"a.b\"]"), (9, 5));
        assert_eq!(at("spec.again"), (11, 3));
    }

    #[test]
    fn paths_into_nothing_end_at_what_is_there() {
        assert_eq!(at("spec.routes[0].route[0].weight"), (5, 5));
        assert_eq!(at("spec.routes[7]"), (4, 3));
        assert_eq!(at("status"), (2, 1));
        assert_eq!(at(""), (2, 1));
    }

    #[test]
    fn values_are_those_of_the_yaml() {
        let node: Node = serde_saphyr::from_str(YAML).unwrap();
        assert_eq!(node.value(), serde_saphyr::from_str::<Value>(YAML).unwrap());
    }
}
