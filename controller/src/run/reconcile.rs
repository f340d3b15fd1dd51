//! The loop: whenever something changed, it makes the objects anew, and makes the cluster have them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::apply::{Applier, Written};
use super::cache::Cache;
use super::changes::Wanted;
use super::installation::Installation;
use super::istiod::versions;
use super::lease::Leadership;
use super::metrics::Metrics;
use super::pulse::{Change, Pulse};
use super::secrets::Secrets;
use super::status::{Found, Teller};
use super::{taps, turned_on};
use crate::findings::{Report, ResourceRef};
use crate::generate::{self, Delivery, IstioVersion, Output, Places, generate};

/// How often Secrets are read again, and all is compared though nothing seems to have changed.
const ROUND: Duration = Duration::from_secs(60);

/// How soon a pass that failed is tried again, the first time. It is twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest pause before a pass that failed is tried again.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The loop and all it needs.
pub struct Reconciler {
    /// What the cluster has.
    pub cache: Arc<Cache>,
    /// Who reports changes.
    pub pulse: Arc<Pulse>,
    /// Whether this replica writes.
    pub leadership: Leadership,
    /// How objects are made. The version of Istio counts if it is fixed.
    pub options: generate::Options,
    /// The version of Istio that was given; else that of the cluster.
    pub fixed_version: Option<IstioVersion>,
    /// The passwords.
    pub secrets: Secrets,
    /// Which objects are to be written.
    pub installation: Installation,
    /// Who writes objects.
    pub applier: Applier,
    /// Who deletes what has ended.
    pub client: Client,
    /// Who writes statuses.
    pub teller: Teller,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What the last pass made, and of which inputs.
    pub made: Option<Made>,
    /// What was last said of the versions of Istio.
    pub versions: Option<Vec<IstioVersion>>,
}

/// What a pass made.
pub struct Made {
    inputs: u64,
    version: IstioVersion,
    objects: Arc<[Wanted]>,
    reports: Arc<Reports>,
    /// When the first of the taps ends: then they have to be made anew.
    until: Option<Timestamp>,
}

/// What was found in resources, and where they are in force.
struct Reports {
    reports: Vec<Report>,
    places: HashMap<ResourceRef, Places>,
}

/// How a pass ended.
enum Outcome {
    /// All is as it should be, as far as it can be now. The loop may be needed again at a time.
    Complete(Option<Instant>),
    /// Something failed: it is tried again, soon. The loop may be needed before.
    Failed(Option<Instant>),
    /// It is not known yet what should be; what is missing will show.
    Waiting,
}

impl Reconciler {
    /// Runs until `end`. A pass that has begun is finished.
    pub async fn run(mut self, mut end: watch::Receiver<bool>) {
        let mut next = Instant::now() + ROUND;
        let mut round = Instant::now();
        let mut pause = FIRST_RETRY;
        loop {
            tokio::select! {
                () = turned_on(&mut end) => return,
                () = self.pulse.changed() => self.pulse.settled().await,
                () = sleep_until(next) => {}
            }
            let is_round = round.elapsed() >= ROUND;
            let outcome = match self.leadership.clone().guard(self.pass(is_round)).await {
                Some(outcome) => outcome,
                None => Outcome::Waiting,
            };
            if is_round {
                round = Instant::now();
            }
            let now = Instant::now();
            next = match outcome {
                Outcome::Complete(due) => {
                    pause = FIRST_RETRY;
                    due.map_or(now + ROUND, |due| due.min(now + ROUND))
                }
                Outcome::Waiting => now + ROUND,
                Outcome::Failed(due) => {
                    debug!(?pause, "retrying the pass");
                    let next = now + pause;
                    pause = (pause * 2).min(LAST_RETRY);
                    due.map_or(next, |due| due.min(next))
                }
            };
        }
    }

    async fn pass(&mut self, is_round: bool) -> Outcome {
        let unsettled = self.cache.unsettled();
        if !unsettled.is_empty() {
            // Whatever is deleted before all is known may be wanted.
            debug!(?unsettled, "the cluster is not known yet");
            return Outcome::Waiting;
        }
        let Some(version) = self.version() else { return Outcome::Waiting };
        if self.secrets.read(&self.cache.secret_names(), is_round).await {
            self.pulse.tell(Change::Input);
        }
        let Some((objects, reports)) = self.wanted(version).await else {
            self.metrics.passed(false);
            return Outcome::Failed(None);
        };
        let start = Instant::now();
        let own = self.installation.own(&objects, self.cache.written());
        let written = self.applier.write(&own.wanted, own.live).await;
        let found = Found { reports: &reports.reports, places: &reports.places, held: &written.held };
        let untold = self.teller.tell(&found, &self.cache.subjects()).await;
        self.metrics.took("write", start.elapsed());
        let now = Timestamp::now();
        taps::delete_ended(&self.client, self.cache.taps(), now).await;
        let until = self.made.as_ref().and_then(|made| made.until);
        let until = until.map(|until| taps::instant(until, now));
        let Written { applied, deleted, failed, waiting, next, .. } = written;
        let next = [next, until].into_iter().flatten().min();
        if applied + deleted + failed + untold > 0 {
            info!(applied, deleted, failed, waiting, untold, took = ?start.elapsed(), "pass");
        }
        let is_complete = failed + untold == 0;
        self.metrics.passed(is_complete);
        match is_complete {
            true => Outcome::Complete(next),
            false => Outcome::Failed(next),
        }
    }

    /// What is wanted, and what was found: made anew if an input changed since they were made.
    async fn wanted(&mut self, version: IstioVersion) -> Option<(Arc<[Wanted]>, Arc<Reports>)> {
        let inputs = self.pulse.inputs();
        if let Some(made) = &self.made
            && made.inputs == inputs
            && made.version == version
            && made.until.is_none_or(|until| Timestamp::now() < until)
        {
            return Some((made.objects.clone(), made.reports.clone()));
        }
        let start = Instant::now();
        let cache = self.cache.clone();
        let secrets = self.secrets.found();
        let metrics = self.metrics.clone();
        let options = generate::Options { istio_version: version, ..self.options.clone() };
        let making = tokio::task::spawn_blocking(move || {
            let (mut world, malformed) = cache.world();
            world.secrets = secrets;
            let (taps, until) = taps::still_on(world.taps, Timestamp::now());
            world.taps = taps;
            let mut output = generate(&world, &options);
            add_reports(&mut output.reports, malformed);
            metrics.generated(&output);
            let places = output.places();
            let Output { objects, reports } = output;
            let objects = objects.into_iter().map(|object| Wanted::new(&object)).collect::<Result<_, _>>()?;
            let reports: Arc<Reports> = Reports { reports, places }.into();
            Ok::<(Arc<[Wanted]>, Arc<Reports>, Option<Timestamp>), serde_json::Error>((
                objects, reports, until,
            ))
        });
        match making
            .await
            .map_err(|error| error.to_string())
            .and_then(|made| made.map_err(|error| error.to_string()))
        {
            Ok((objects, reports, until)) => {
                let time = start.elapsed();
                self.metrics.took("generate", time);
                debug!(objects = objects.len(), took = ?time, "generated");
                self.made =
                    Some(Made { inputs, version, objects: objects.clone(), reports: reports.clone(), until });
                Some((objects, reports))
            }
            Err(failure) => {
                error!(failure, "the generator failed; nothing is changed");
                None
            }
        }
    }

    fn version(&mut self) -> Option<IstioVersion> {
        if let Some(version) = self.fixed_version {
            return Some(version);
        }
        let istiods = self.cache.istiods();
        let versions = versions(istiods.iter().map(|istiod| &**istiod));
        let is_news = self.versions.as_ref() != Some(&versions);
        let versions = self.versions.insert(versions);
        // The name by which sidecars ask for a WasmPlugin depends on the version, that of an EXTENSION_CONFIG does not.
        if self.options.delivery == Delivery::ExtensionConfig {
            return Some(versions.first().copied().unwrap_or(IstioVersion(u32::MAX)));
        }
        match versions[..] {
            [] if is_news => error!(
                namespace = self.options.root_namespace,
                "no Deployment labelled app=istiod states the version of Istio: set --istio-version"
            ),
            [first, .., last] if is_news => warn!(
                ?first,
                ?last,
                "istiods of several versions: the first counts; sidecars of each understand --delivery=extension-config"
            ),
            [version] if is_news => info!(?version, "the version of Istio"),
            _ => {}
        }
        versions.first().copied()
    }
}

/// Adds reports to those that there are, in their order.
fn add_reports(reports: &mut Vec<Report>, more: Vec<Report>) {
    if more.is_empty() {
        return;
    }
    for report in more {
        match reports.iter_mut().find(|known| known.resource == report.resource) {
            Some(known) => known.findings.splice(..0, report.findings).for_each(drop),
            None => reports.push(report),
        }
    }
    reports.sort_by(|one, other| {
        let key = |report: &Report| {
            let resource = &report.resource;
            (resource.kind.clone(), resource.namespace.clone(), resource.name.clone())
        };
        key(one).cmp(&key(other))
    });
}
