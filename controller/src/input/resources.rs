use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::files::File;
use super::node::Node;
use crate::check;
use crate::findings::{Finding, ResourceRef, Severity};
use crate::generate::{self, MANAGED_BY, Output};
use crate::kinds;
use crate::place::{Place, steps};
use crate::words;
use crate::world::{ReadError, World};

/// The resources of some files: checked, and put together into a world.
#[derive(Debug, Default)]
pub struct Resources {
    /// The resources that could be read.
    pub world: World,
    /// What the rules say, in the order of the files.
    found: Vec<Found>,
    documents: Vec<Document>,
    by_name: BTreeMap<ResourceRef, usize>,
    unread: BTreeSet<ResourceRef>,
    /// How many objects there are of kinds that Meltemi reads.
    checked: usize,
    /// How many there are that it does not read, or generated itself.
    others: usize,
}

#[derive(Debug)]
struct Document {
    file: String,
    is_found: bool,
    node: Node,
    resource: ResourceRef,
    object: Value,
}

/// A finding, and where the resource is that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What was found.
    pub finding: Finding,
    /// The resource, if it could be read.
    pub resource: Option<ResourceRef>,
    /// Where it is, if it is in a file.
    pub origin: Option<Origin>,
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The name of the file.
    pub file: String,
    /// Where in the file, if that is known.
    pub place: Option<Place>,
}

impl Found {
    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.finding.severity == Severity::Error
    }
}

/// `file:line:column: path: message`, as far as each is known.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        match &*self.finding.path {
            "" => f.write_str(&self.finding.message),
            path => write!(f, "{path}: {}", self.finding.message),
        }
    }
}

/// `file:line:column`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.place {
            Some(Place { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl Resources {
    /// Reads resources in YAML or JSON; those that name no namespace are of `namespace`. Objects of kinds that Meltemi does
    /// not read are passed over, and so are those that it generated itself.
    pub fn new(files: &[File], namespace: &str) -> Self {
        let mut resources = Self::default();
        for file in files {
            resources.read(file, namespace);
        }
        resources.check();
        resources
    }

    /// Whether a text is of resources, and not of a plan.
    pub fn are_in(text: &str) -> bool {
        let of_line = |line: &str| {
            let line = line.trim_start_matches(['-', ' ', '{', '\t']).trim_start();
            line.starts_with("apiVersion:") || line.starts_with("\"apiVersion\"")
        };
        text.lines().any(of_line)
            || (text.contains("\"apiVersion\"")
                && text.contains("\"kind\"")
                && !text.contains("\"services\""))
    }

    fn read(&mut self, file: &File, namespace: &str) {
        match nodes(file) {
            Ok(nodes) => nodes.into_iter().for_each(|node| self.document(file, node, namespace)),
            Err(found) => self.found.push(*found),
        }
    }

    fn document(&mut self, file: &File, node: Node, namespace: &str) {
        if let Some(items) = node.list_items() {
            for item in items {
                self.document(file, item.clone(), namespace);
            }
            return;
        }
        let mut object = node.value();
        if object.is_null() {
            return;
        }
        let has = |field: &str| object.get(field).is_some_and(Value::is_string);
        if !has("apiVersion") || !has("kind") {
            if !file.is_found {
                let finding = Finding {
                    severity: Severity::Error,
                    path: String::new(),
                    message: "not a Kubernetes object: apiVersion or kind is missing".to_owned(),
                };
                let origin = Some(Origin { file: file.name.clone(), place: Some(node.place) });
                self.found.push(Found { finding, resource: None, origin });
            }
            return;
        }
        if object["metadata"]["labels"][MANAGED_BY.0] == MANAGED_BY.1 {
            self.others += 1;
            return;
        }
        let of_kind = name(&object);
        let kind = kinds::find(&of_kind.group, &of_kind.kind);
        let is_namespaced = kind.is_none_or(|kind| kind.is_namespaced);
        if let Some(metadata) = object["metadata"].as_object_mut().filter(|_| is_namespaced) {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
        let resource = name(&object);
        let document = self.documents.len();
        match self.by_name.get(&resource).copied() {
            None => _ = self.by_name.insert(resource.clone(), document),
            Some(first) if check::object(&object).is_none() => {
                // What a cluster adds to an object, such as addresses, may be in a file of its own.
                if let Some(first) = self.documents.get_mut(first) {
                    merge(&mut first.object, object);
                }
                return;
            }
            Some(_) => {}
        }
        self.documents.push(Document {
            file: file.name.clone(),
            is_found: file.is_found,
            node,
            resource,
            object,
        });
    }

    /// Checks the documents, and puts those that can be read into the world.
    fn check(&mut self) {
        for number in 0..self.documents.len() {
            let Some(document) = self.documents.get(number) else { continue };
            if let Some(stranger) = check::stranger(&document.object) {
                let found = self.at(number, stranger);
                self.found.push(found);
                continue;
            }
            let mut findings = check::object(&document.object).unwrap_or_default();
            let first = self.by_name.get(&document.resource).copied().filter(|&first| first != number);
            if let Some(first) = first.and_then(|first| self.documents.get(first)) {
                let line = first.node.place.line;
                let mend = match document.is_found && first.is_found && document.file != first.file {
                    true => "name one of the two files, not the folder of both",
                    false => "leave one out",
                };
                let message = format!("duplicate; first defined in {}:{line}; {mend}", first.file);
                findings.push(Finding { severity: Severity::Error, path: "metadata.name".into(), message });
            }
            // Whatever can be read goes into the world, good or bad: what a bad one means is for the generator, to which a
            // policy that breaks its rules is no less of one.
            let added = if first.is_none() { self.world.add(&document.object) } else { Ok(true) };
            if let Ok(false) = added {
                self.others += 1;
                continue;
            }
            self.checked += 1;
            findings.extend(check::names(&document.object));
            if let Err(error) = added {
                let shape = shape(error);
                if !findings.contains(&shape) {
                    findings.push(shape);
                }
                self.unread.insert(document.resource.clone());
            }
            let found: Vec<Found> = findings.into_iter().map(|finding| self.at(number, finding)).collect();
            self.found.extend(found);
        }
    }

    fn at(&self, document: usize, finding: Finding) -> Found {
        let document = self.documents.get(document);
        Found {
            resource: document.map(|document| document.resource.clone()),
            origin: document.map(|document| Origin {
                file: document.file.clone(),
                place: Some(document.node.locate(&steps(&finding.path))),
            }),
            finding,
        }
    }

    /// Generates the objects of the resources in force. The findings are those of the rules and, where a rule has not said
    /// the same, of the generator; in the order of the files.
    pub fn generate(&self, options: &generate::Options) -> (Output, Vec<Found>) {
        let output = generate::generate(&self.world, options);
        let mut found = self.found.clone();
        for report in &output.reports {
            for finding in &report.findings {
                let same = |known: &Found| {
                    known.resource.as_ref() == Some(&report.resource)
                        && known.finding.path == finding.path
                        && known.finding.severity == finding.severity
                };
                if self.found.iter().any(same) {
                    continue;
                }
                found.push(match self.by_name.get(&report.resource) {
                    Some(document) => self.at(*document, finding.clone()),
                    None => Found {
                        finding: finding.clone(),
                        resource: Some(report.resource.clone()),
                        origin: None,
                    },
                });
            }
        }
        let order = |found: &Found| {
            let document = found.resource.as_ref().and_then(|resource| self.by_name.get(resource));
            (document.copied().unwrap_or(usize::MAX), found.origin.as_ref().and_then(|origin| origin.place))
        };
        found.sort_by_key(order);
        (output, found)
    }

    /// Where a field of a resource is.
    pub fn origin(&self, resource: &ResourceRef, path: &str) -> Option<Origin> {
        let document = self.documents.get(*self.by_name.get(resource)?)?;
        Some(Origin { file: document.file.clone(), place: Some(document.node.locate(&steps(path))) })
    }

    /// What the rules say, without the generator, which has little to say where no services are.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The policies of authorization that could not be read. Without them a plan would allow too much.
    pub fn unread_policies(&self) -> impl Iterator<Item = &ResourceRef> {
        self.unread.iter().filter(|resource| resource.kind.ends_with("AuthorizationPolicy"))
    }

    /// Whether nothing was found in the files, right or wrong.
    pub fn are_none(&self) -> bool {
        self.documents.is_empty() && self.found.is_empty() && self.others == 0
    }

    /// How many resources were checked.
    pub fn checked(&self) -> usize {
        self.checked
    }

    /// How many objects were passed over.
    pub fn others(&self) -> usize {
        self.others
    }

    /// Whether there are services that routes can be generated for.
    pub fn have_services(&self) -> bool {
        !self.world.services.is_empty() || !self.world.service_entries.is_empty()
    }
}

/// The objects of a file, whatever they are; those of lists by themselves.
///
/// # Errors
///
/// The file is not YAML: where and why.
pub fn objects(file: &File) -> Result<Vec<Value>, String> {
    let nodes = nodes(file).map_err(|found| found.to_string())?;
    let listed = nodes.iter().flat_map(|node| node.list_items().unwrap_or(std::slice::from_ref(node)));
    Ok(listed.map(Node::value).collect())
}

fn nodes(file: &File) -> Result<Vec<Node>, Box<Found>> {
    // A cluster's resources may be many; whoever names a file means all of it.
    let options = serde_saphyr::options! { budget: None };
    serde_saphyr::from_multiple_with_options(&file.text, options).map_err(|error| {
        let (place, message) = words::yaml(&error);
        let finding = Finding { severity: Severity::Error, path: String::new(), message };
        Box::new(Found { finding, resource: None, origin: Some(Origin { file: file.name.clone(), place }) })
    })
}

/// Adds what `other` says, which holds where both say something. Lists are taken whole.
fn merge(object: &mut Value, other: Value) {
    match (object, other) {
        (Value::Object(fields), Value::Object(others)) => {
            for (name, other) in others {
                match fields.get_mut(&name) {
                    Some(field) => merge(field, other),
                    None => _ = fields.insert(name, other),
                }
            }
        }
        (object, other) => *object = other,
    }
}

fn shape(error: ReadError) -> Finding {
    let (path, message) = match error {
        ReadError::Shape { path, message, .. } if path == "." => (String::new(), message),
        ReadError::Shape { path, message, .. } => (path, message),
        other => (String::new(), other.to_string()),
    };
    Finding { severity: Severity::Error, path, message }
}

fn name(object: &Value) -> ResourceRef {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/'));
    ResourceRef {
        kind: text(&object["kind"]),
        group: group.map(|(group, _)| group.to_owned()).unwrap_or_default(),
        namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
        name: text(&object["metadata"]["name"]),
    }
}
