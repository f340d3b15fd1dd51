//! The formats of access logs that the mesh configuration has, as plans have them.

use meltemi_proxy::plan::{check_log_format, mend_log_format, raw};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::mesh_maps::KEY;
use super::report::Reports;
use crate::findings::ResourceRef;
use crate::istio::MeshConfig;

/// A format, and what of it is not in force.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogFormat {
    /// The ConfigMap that has it.
    map: ResourceRef,
    /// The log's name.
    log: String,
    /// The field of a plan's `accessLog`, or why there is none.
    field: Result<(&'static str, Value), String>,
    /// What stands for nothing in the calls of managed protocols.
    unknown: Vec<String>,
}

impl LogFormat {
    /// That of the mesh's own log, unless it is Istio's default.
    pub(super) fn of_mesh(config: &MeshConfig, map: &ResourceRef, log: &str) -> Option<Self> {
        let text = config.access_log_format.as_ref().filter(|text| !text.trim().is_empty())?;
        let is_json =
            config.access_log_encoding.as_ref().is_some_and(|encoding| *encoding == "JSON" || *encoding == 1);
        if !is_json {
            return Some(Self::text(text, map, log));
        }
        Some(match serde_json::from_str(text) {
            Ok(labels) => Self::labels(&labels, map, log),
            Err(error) => Self {
                map: map.clone(),
                log: log.to_owned(),
                field: Err(format!("accessLogFormat is no object of JSON: {error}")),
                unknown: Vec::new(),
            },
        })
    }

    /// That of a provider of `envoyFileAccessLog`, unless it is Istio's default.
    pub(super) fn of_provider(provider: &Value, map: &ResourceRef, log: &str) -> Option<Self> {
        let format = &provider["logFormat"];
        if let Some(text) = format["text"].as_str().filter(|text| !text.trim().is_empty()) {
            return Some(Self::text(text, map, log));
        }
        let labels = format["labels"].as_object().filter(|labels| !labels.is_empty())?;
        Some(Self::labels(labels, map, log))
    }

    /// The field of a plan's `accessLog`, if there is one. Says what is not in force.
    pub(super) fn field(&self, reports: &mut Reports) -> Option<(&'static str, Value)> {
        let path = || format!("data.{KEY}");
        let log = &self.log;
        report_unknown(&self.unknown, &self.map, log, reports);
        match &self.field {
            Ok(field) => Some(field.clone()),
            Err(why) => {
                let message = format!(
                    "the format of the access log {log:?} is not that of managed protocols, whose lines have their own: {why}"
                );
                reports.not_honoured(&self.map, path(), message);
                None
            }
        }
    }

    /// Whether it is one of managed protocols.
    pub(super) fn is_one(&self) -> bool {
        self.field.is_ok()
    }

    /// Whether lines in two formats are the same, if there are formats.
    pub(super) fn are_alike((one, other): (Option<&Self>, Option<&Self>)) -> bool {
        one.map(|format| &format.field) == other.map(|format| &format.field)
    }

    /// Says that this format counts, and not that of another log, if it has another or none.
    pub(super) fn report_other(&self, log: &str, other: Option<&Self>, reports: &mut Reports) {
        if Self::are_alike((Some(self), other)) {
            return;
        }
        let message = format!(
            "a call of managed protocols has one line, for all access logs: not in {} of {log:?}, but in that of {:?}",
            if other.is_some() { "the format" } else { "the usual form" },
            self.log
        );
        let map = other.map_or(&self.map, |other| &other.map);
        reports.not_honoured(map, format!("data.{KEY}"), message);
    }

    pub(super) fn text(text: &str, map: &ResourceRef, log: &str) -> Self {
        let (mended, unknown) = mend_log_format(text);
        Self::checked(("textFormat", mended.into()), unknown, map, log)
    }

    fn labels(labels: &Map<String, Value>, map: &ResourceRef, log: &str) -> Self {
        let (mended, unknown) = mended(labels);
        Self::checked(("jsonFormat", mended.into()), unknown, map, log)
    }

    fn checked(field: (&'static str, Value), unknown: Vec<String>, map: &ResourceRef, log: &str) -> Self {
        let raw = raw::AccessLog::deserialize(json!({field.0: field.1}));
        let checked = raw.map_err(|error| error.to_string()).and_then(|raw| check_log_format(&raw));
        Self { map: map.clone(), log: log.to_owned(), field: checked.map(|()| field), unknown }
    }
}

/// Labels as plans have them, and what of them stands for nothing in the calls of managed protocols.
pub(super) fn mended(labels: &Map<String, Value>) -> (Map<String, Value>, Vec<String>) {
    let (mut mended, mut unknown) = (Map::new(), Vec::new());
    for (name, value) in labels {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                unknown.push(format!("{name} (which is not text)"));
                continue;
            }
        };
        let (text, others) = mend_log_format(&text);
        mended.insert(name.clone(), text.into());
        unknown.extend(others);
    }
    (mended, unknown)
}

/// Says what of the format of a log stands for nothing.
pub(super) fn report_unknown(unknown: &[String], map: &ResourceRef, log: &str, reports: &mut Reports) {
    if !unknown.is_empty() {
        let message = format!(
            "the format of the access log {log:?} has {}, of which calls of managed protocols know nothing: their lines have a \
             dash there",
            unknown.join(", ")
        );
        reports.not_honoured(map, format!("data.{KEY}"), message);
    }
}
