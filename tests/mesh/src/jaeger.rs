use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::Process;

/// Where it is asked about spans.
const QUERIES: &str = "127.0.0.1:16686";

/// Jaeger, which takes spans by OTLP and is asked about them. Killed when dropped.
#[derive(Debug)]
pub struct Jaeger {
    _process: Process,
}

/// A span as Jaeger tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The service that made it.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// Its id.
    pub id: String,
    /// That of the span which it is a part of.
    pub parent: Option<String>,
    /// Its attributes, and its kind as `span.kind`.
    pub tags: BTreeMap<String, String>,
}

impl Jaeger {
    /// The port at which it takes spans by gRPC.
    pub const PORT: u16 = 14317;

    /// Starts the program `binary` in the network namespace of this thread.
    pub(crate) fn start(binary: &Path) -> Self {
        let config = json!({
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 10_000}}}},
                "jaeger_query": {
                    "storage": {"traces": "memory"},
                    "http": {"endpoint": QUERIES},
                    "grpc": {"endpoint": "127.0.0.1:16685"},
                },
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": format!("0.0.0.0:{}", Self::PORT)}}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        });
        let config = format!("--config=yaml:{config}");
        let mut process = Process::start("jaeger", None, Command::new(binary).arg(config));
        process.wait_until("Jaeger answers", || get("/api/services"));
        Self { _process: process }
    }

    /// The spans of each trace that a service has a part in, if Jaeger says so this time; asked in the network namespace of
    /// this thread.
    pub fn traces(&self, service: &str) -> Option<Vec<Vec<Seen>>> {
        let answer = get(&format!("/api/traces?service={service}&limit=1000"))?;
        let spans = |trace: &Value| list(&trace["spans"]).map(|span| seen(span, trace)).collect();
        Some(answer["data"].as_array()?.iter().map(spans).collect())
    }
}

fn get(path: &str) -> Option<Value> {
    let mut answer = ureq::get(format!("http://{QUERIES}{path}")).call().ok()?;
    serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
}

fn seen(span: &Value, trace: &Value) -> Seen {
    let process = span["processID"].as_str().unwrap();
    let parent = list(&span["references"]).find(|reference| reference["refType"] == "CHILD_OF");
    let tags = list(&span["tags"]).map(|tag| {
        let value = &tag["value"];
        (text(&tag["key"]), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    Seen {
        service: text(&trace["processes"][process]["serviceName"]),
        name: text(&span["operationName"]),
        id: text(&span["spanID"]),
        parent: parent.map(|parent| text(&parent["spanID"])),
        tags: tags.collect(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
