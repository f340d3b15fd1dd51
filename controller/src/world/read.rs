use kube::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::World;
use crate::kinds::kinds;
use crate::words;

/// The label that distinguishes the Deployments of istiod from others.
pub const ISTIOD: (&str, &str) = ("app", "istiod");

/// An object as it is in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file.
    pub file: String,
    /// The line of the file that the document starts on, counted from 1.
    pub line: usize,
    /// The object.
    pub object: Value,
}

/// Why an object could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is not YAML.
    #[error("{file}:{line}: {message}")]
    Yaml {
        /// The file.
        file: String,
        /// The line that the document starts on.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The object has another shape than its kind.
    #[error("{kind} {name}: {path}: {message}")]
    Shape {
        /// The kind of the object.
        kind: String,
        /// Its name, after its namespace where it has one: `shop/greeter`.
        name: String,
        /// The path of the field, such as `spec.routes[0].route`.
        path: String,
        /// What is wrong.
        message: String,
    },
}

/// The documents of a YAML (or JSON) file, without the empty ones. The items of a `List` are documents of their own.
///
/// # Errors
///
/// The first document that is not YAML.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>, ReadError> {
    let mut documents = Vec::new();
    let mut start = 0;
    let lines: Vec<&str> = text.lines().collect();
    let ends = (0..lines.len()).filter(|&at| is_separator(lines[at])).chain([lines.len()]);
    for end in ends {
        let first = (start..end).find(|&at| is_content(lines[at])).unwrap_or(end);
        let object: Value = serde_saphyr::from_str(&lines[start..end].join("\n")).map_err(|error| {
            ReadError::Yaml { file: file.to_owned(), line: first + 1, message: words::yaml(&error).1 }
        })?;
        start = end + 1;
        let document = |object| Document { file: file.to_owned(), line: first + 1, object };
        match object {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                let items = list.remove("items").map(Vec::<Value>::deserialize).and_then(Result::ok);
                documents.extend(items.unwrap_or_default().into_iter().map(document));
            }
            object => documents.push(document(object)),
        }
    }
    Ok(documents)
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn is_content(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

impl World {
    /// Puts an object in its place. Returns whether it is of a kind that Meltemi reads; others are passed over.
    ///
    /// # Errors
    ///
    /// The object has another shape than its kind.
    pub fn add(&mut self, object: &Value) -> Result<bool, ReadError> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = text("kind");
        macro_rules! put {
            (
                kubernetes { $($(#[$_k:meta])* $kubernetes:ident: $_kt:ty,)* }
                few { $($(#[$_f:meta])* $few:ident: $_ft:ty,)* }
                istio { $($(#[$_i:meta])* $istio:ident: $_it:ty,)* }
                ours { $($(#[$_o:meta])* $ours:ident: $_ot:ty, $_rules:ident;)* }
            ) => {
                put!($($kubernetes,)* $($few,)* $($istio,)* $($ours,)*)
            };
            ($($field:ident,)*) => {$(
                if is_of(&self.$field, group, kind) {
                    return push(&mut self.$field, object).map(|()| true);
                }
            )*};
        }
        kinds!(put);
        let (label, name) = ISTIOD;
        if is_of(&self.istiods, group, kind) && object["metadata"]["labels"][label] == name {
            return push(&mut self.istiods, object).map(|()| true);
        }
        Ok(false)
    }
}

fn is_of<T: Resource<DynamicType = ()>>(_: &[T], group: &str, kind: &str) -> bool {
    T::kind(&()) == kind && T::group(&()) == group
}

fn push<T: DeserializeOwned>(all: &mut Vec<T>, object: &Value) -> Result<(), ReadError> {
    let read = serde_path_to_error::deserialize(object).map_err(|error| ReadError::Shape {
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
        name: name(object),
        path: error.path().to_string(),
        message: words::shape(&error.inner().to_string()),
    })?;
    all.push(read);
    Ok(())
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# two objects
---
apiVersion: v1
kind: Service
metadata: {name: demo, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  ports: [{name: tcp-dubbo, port: 20880}]
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: demo}}
";

    #[test]
    fn documents_are_found_with_their_lines() {
        let found = documents("a.yaml", FILE).unwrap();
        assert_eq!(found.iter().map(|document| document.line).collect::<Vec<_>>(), [3, 10, 10]);
        let mut world = World::default();
        let read: Vec<bool> = found.iter().map(|document| world.add(&document.object).unwrap()).collect();
        assert_eq!(read, [true, true, false]);
        assert_eq!(world.services[0].metadata.name.as_deref(), Some("demo"));
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let error = documents("a.yaml", "a: 1\n---\nb: [\n").unwrap_err();
        assert!(error.to_string().starts_with("a.yaml:3: "), "{error}");
    }

    #[test]
    fn a_wrong_shape_names_the_field() {
        let object = serde_json::json!({
            "apiVersion": "metaprotocol.aeraki.io/v1alpha1", "kind": "MetaRouter",
            "metadata": {"name": "greeter", "namespace": "shop"},
            "spec": {"hosts": ["a"], "routes": [{"route": 5}]},
        });
        let error = World::default().add(&object).unwrap_err();
        let wanted =
            "MetaRouter shop/greeter: spec.routes[0].route: invalid type: integer `5`, expected a list";
        assert_eq!(error.to_string(), wanted);
    }
}
