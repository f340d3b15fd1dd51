//! Tells the writers of resources what was found in them: by the status of each resource, and by events.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Error};
use serde_json::json;
use tracing::{debug, info, warn};

use super::apply::{Held, MANAGER, limited};
use super::conditions::{Pending, is_same_news, said, status};
use super::feeds::Subject;
use super::metrics::{Metrics, Operation};
use crate::api::aeraki::Status;
use crate::findings::{Finding, Report, ResourceRef, Severity};
use crate::generate::Places;
use crate::words::shortened;

/// How many writes are under way at a time.
const PARALLEL: usize = 16;

/// How long the note of an event may be, by its schema.
const MAX_NOTE_LEN: usize = 1024;

/// Tells of findings.
pub struct Teller {
    client: Client,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    told: HashMap<ResourceRef, Told>,
}

/// What was reported on a resource, so that it is not repeated before anything changes, whatever the API server made of
/// it.
struct Told {
    findings: Vec<Finding>,
    places: Option<Places>,
    held: Pending,
    generation: Option<i64>,
}

/// What there is to tell.
pub struct Found<'a> {
    /// What was found in resources.
    pub reports: &'a [Report],
    /// Where they are in force.
    pub places: &'a HashMap<ResourceRef, Places>,
    /// Where they may not be yet.
    pub held: &'a Held,
}

impl Found<'_> {
    /// The namespaces in which a resource is not in force yet. Where no routes are made of one, that is where
    /// objects of its own namespace cannot be written.
    fn held(&self, resource: &ResourceRef) -> Pending {
        let places = self.places.get(resource);
        let mut pending = Pending::new();
        for ((namespace, shard), why) in self.held {
            let is_there = match places {
                Some(places) => shard.as_ref().is_some_and(|shard| places.go_by(namespace, shard)),
                None => resource.namespace.as_deref() == Some(namespace) && why.is_failure(),
            };
            if is_there {
                let known = pending.entry(namespace.to_string()).or_insert_with(|| why.clone());
                if *known < *why {
                    known.clone_from(why);
                }
            }
        }
        pending
    }
}

impl Teller {
    /// One who has reported nothing yet, and whose events are reported by `identity`.
    pub fn new(client: Client, identity: String, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: "meltemi.io/controller".to_owned(), instance: Some(identity) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, recorder, metrics, told: HashMap::new() }
    }

    /// Tells what was found, as far as that is news. `subjects` is what the cluster has. Returns how many writes failed.
    pub async fn tell(&mut self, found: &Found<'_>, subjects: &HashMap<ResourceRef, Subject>) -> usize {
        let now = Timestamp::now();
        self.told.retain(|resource, _| subjects.contains_key(resource));
        let this = &*self;
        let news = found
            .reports
            .iter()
            .filter_map(|report| this.news(found, report, subjects.get(&report.resource)?, now));
        let outcomes: Vec<(&Report, &Subject, bool)> = futures::stream::iter(news)
            .map(|news| async move { (news.report, news.subject, this.publish(&news).await) })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let mut failed = 0;
        for (report, subject, is_told) in outcomes {
            match is_told {
                true => {
                    let told = Told {
                        findings: report.findings.clone(),
                        places: found.places.get(&report.resource).cloned(),
                        held: found.held(&report.resource),
                        generation: subject.generation,
                    };
                    self.told.insert(report.resource.clone(), told);
                }
                false => failed += 1,
            }
        }
        failed
    }

    fn news<'a>(
        &self,
        found: &Found<'a>,
        report: &'a Report,
        subject: &'a Subject,
        now: Timestamp,
    ) -> Option<News<'a>> {
        let (places, held) = (found.places.get(&report.resource), found.held(&report.resource));
        let told = self.told.get(&report.resource);
        let is_known = told.is_some_and(|told| told.findings == report.findings);
        match &subject.status {
            Some(before) => {
                let status =
                    status(&report.findings, places, &held, subject.generation, before.as_ref(), now);
                if before.as_ref() == Some(&status) {
                    return None;
                }
                let is_told = |told: &Told| {
                    told.generation == subject.generation
                        && told.places.as_ref() == places
                        && told.held == held
                };
                if is_known && told.is_some_and(is_told) {
                    // The server keeps another status than was written, as where its schema has none.
                    return None;
                }
                let is_event = !is_known
                    && !is_same_news(before.as_ref(), &status)
                    && (before.is_some() || !report.findings.is_empty());
                Some(News { report, subject, status: Some(status), is_event })
            }
            None if is_known || (told.is_none() && report.findings.is_empty()) => None,
            None => Some(News { report, subject, status: None, is_event: true }),
        }
    }

    async fn publish(&self, news: &News<'_>) -> bool {
        let resource = &news.report.resource;
        let mut is_told = true;
        if let Some(status) = &news.status {
            let outcome = limited(write_status(&self.client, news.subject, resource, status)).await;
            self.metrics.wrote(Operation::Status, outcome.is_ok());
            if let Err(error) = outcome {
                warn!(%resource, error, "cannot write a status");
                is_told = false;
            }
        }
        for finding in &news.report.findings {
            info!(%resource, severity = ?finding.severity, finding = shortened(&said(finding), MAX_NOTE_LEN), "found");
        }
        if news.is_event {
            let event = event(&news.report.findings);
            let outcome = limited(self.recorder.publish(&event, &news.subject.reference)).await;
            self.metrics.wrote(Operation::Event, outcome.is_ok());
            if let Err(error) = outcome {
                // An event is a courtesy: the status and the log say the same.
                warn!(%resource, error, "cannot write an event");
            }
        }
        is_told
    }
}

/// A report that was not published yet.
struct News<'a> {
    report: &'a Report,
    subject: &'a Subject,
    status: Option<Status>,
    is_event: bool,
}

async fn write_status(
    client: &Client,
    subject: &Subject,
    resource: &ResourceRef,
    status: &Status,
) -> Result<(), Error> {
    let api = match &resource.namespace {
        Some(namespace) => {
            Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &subject.resource)
        }
        None => Api::all_with(client.clone(), &subject.resource),
    };
    let patch = json!({
        "apiVersion": subject.resource.api_version,
        "kind": subject.resource.kind,
        // The UID keeps a status from making anew a resource that was just deleted.
        "metadata": {"name": resource.name, "uid": subject.reference.uid},
        "status": status,
    });
    match api.patch_status(&resource.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.is_not_found() => {
            debug!(%resource, "the resource is gone, or its kind has no status");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn event(findings: &[Finding]) -> Event {
    let worst = findings.iter().map(|finding| finding.severity).min();
    let (type_, reason) = match worst {
        None => (EventType::Normal, "Accepted"),
        Some(Severity::Error) => (EventType::Warning, "Invalid"),
        Some(Severity::NotHonoured) => (EventType::Warning, "NotHonoured"),
        Some(Severity::Warning) => (EventType::Warning, "AcceptedWithWarnings"),
    };
    let notes: Vec<String> = findings.iter().map(said).collect();
    let note = match notes.is_empty() {
        true => "every field is honoured".to_owned(),
        false => shortened(&notes.join("; "), MAX_NOTE_LEN),
    };
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Translate".to_owned(),
        secondary: None,
    }
}
