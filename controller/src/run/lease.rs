//! Which replica writes: the one that holds a Lease.
//!
//! The clocks of replicas may differ, so a lease is over when a replica has seen it unchanged for its whole duration, by
//! its own clock. The holder stops when it could not renew for two thirds of that: always before another can begin.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::metrics::Metrics;
use super::pulse::{Change, Pulse};
use super::turned_on;

/// The Lease, in the namespace of the controller.
pub const NAME: &str = "meltemi";

/// The name of a replica that was given none: that of its host, which is its pod in a cluster, and something that no other
/// process has. A process id would not do: in containers it is always the same.
///
/// # Errors
///
/// The host has no name.
pub fn identity() -> Result<String, String> {
    let variable = env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let host = variable.or_else(|| fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let host = host.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let host = host.ok_or("the host has no name: give one to this replica with --identity")?;
    Ok(format!("{host}-{:08x}", RandomState::new().build_hasher().finish() >> 32))
}

/// Whether this replica leads.
#[derive(Debug, Clone)]
pub struct Leadership {
    holds: watch::Receiver<bool>,
}

impl Leadership {
    /// Whether this replica leads now.
    pub fn holds(&self) -> bool {
        *self.holds.borrow()
    }

    /// Waits until this replica begins to lead or ceases to, and for ever when nobody reports any more.
    pub async fn changed(&mut self) {
        if self.holds.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does `work` while this replica leads. None if it does not, or does no more: the work is dropped at once.
    pub async fn guard<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if !self.holds() {
            return None;
        }
        let mut holds = self.holds.clone();
        tokio::select! {
            biased;
            _ = holds.wait_for(|holds| !holds) => None,
            done = work => Some(done),
        }
    }
}

/// Someone who wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    duration: Duration,
    seen: Option<Seen>,
    renewed: Option<Instant>,
    holds: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
}

/// A state of the Lease and when it was seen first.
struct Seen {
    spec: LeaseSpec,
    at: Instant,
}

impl Candidate {
    /// Someone of that name, who has not tried yet.
    pub fn new(
        client: Client,
        namespace: &str,
        identity: String,
        duration: Duration,
        metrics: Arc<Metrics>,
        pulse: Arc<Pulse>,
    ) -> (Self, Leadership) {
        let (sender, holds) = watch::channel(false);
        let candidate = Self {
            api: Api::namespaced(client, namespace),
            identity,
            duration,
            seen: None,
            renewed: None,
            holds: sender,
            metrics,
            pulse,
        };
        (candidate, Leadership { holds })
    }

    /// Tries to lead and to go on leading until `end`, and gives the Lease back then.
    pub async fn run(mut self, mut end: watch::Receiver<bool>) {
        let pause = self.duration / 5;
        while !*end.borrow() {
            let start = Instant::now();
            // A request that hangs must not keep a holder from noticing that its time is over.
            let limit = self.renewed.map_or(start + self.duration, |renewed| self.deadline(renewed));
            match timeout_at(limit.max(start + pause), self.attempt()).await {
                Ok(Ok(true)) => self.renewed = Some(start),
                Ok(Ok(false)) => self.renewed = None,
                Ok(Err(error)) => debug!(%error, "the Lease could not be renewed"),
                Err(_) => debug!("the Lease was not renewed in time"),
            }
            self.tell();
            let next = (start + pause).max(Instant::now() + pause / 4);
            let next = self.renewed.map_or(next, |renewed| next.min(self.deadline(renewed)));
            tokio::select! {
                () = turned_on(&mut end) => {}
                () = sleep_until(next) => self.tell(),
            }
        }
        self.release().await;
    }

    fn deadline(&self, renewed: Instant) -> Instant {
        renewed + self.duration * 2 / 3
    }

    fn tell(&mut self) {
        let holds = self.renewed.is_some_and(|renewed| Instant::now() < self.deadline(renewed));
        let is_new = self.holds.send_if_modified(|held| std::mem::replace(held, holds) != holds);
        if is_new {
            match holds {
                true => info!(identity = self.identity, "acquired leadership"),
                false => warn!(identity = self.identity, "lost leadership"),
            }
            self.metrics.leads(holds);
            self.pulse.tell(Change::Input);
        }
    }

    /// Takes or renews the Lease if it is ours to take, and returns whether it is held.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
                spec: Some(self.claim(None)),
            };
            return lost_is_false(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|seen| seen.spec != spec) {
            self.seen = Some(Seen { spec: spec.clone(), at: Instant::now() });
        }
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let lasts = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).unsigned_abs().into());
        let is_over = self.seen.as_ref().is_some_and(|seen| seen.at.elapsed() >= lasts);
        if !holder.is_empty() && holder != self.identity && !is_over {
            return Ok(false);
        }
        // The resource version of what was read makes sure that nobody was faster.
        let claimed = Lease { spec: Some(self.claim(Some(&spec))), ..lease };
        lost_is_false(self.api.replace(NAME, &PostParams::default(), &claimed).await)
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let before = before.cloned().unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if is_ours { before.acquire_time } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(
                before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!is_ours)),
            ),
            ..LeaseSpec::default()
        }
    }

    /// Gives the Lease back, so that the next replica need not wait for its end.
    async fn release(mut self) {
        let held = self.renewed.take().is_some();
        self.tell();
        if !held {
            return;
        }
        let give_back = async {
            let Some(lease) = self.api.get_opt(NAME).await? else { return Ok(()) };
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            let free = LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..spec
            };
            let lease = Lease { spec: Some(free), ..lease };
            self.api.replace(NAME, &PostParams::default(), &lease).await.map(|_| ())
        };
        tokio::select! {
            outcome = give_back => {
                if let Err(error) = outcome {
                    warn!(%error, "the Lease could not be given back; it ends by itself");
                }
            }
            () = sleep(self.duration / 3) => warn!("the Lease could not be given back in time; it ends by itself"),
        }
    }
}

/// Another was faster: that is no error.
fn lost_is_false<T>(outcome: Result<T, Error>) -> Result<bool, Error> {
    match outcome {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_of_one_host_have_names_of_their_own() {
        let host = env::var("HOSTNAME").or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname")).unwrap();
        let names = [identity().unwrap(), identity().unwrap()];
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.starts_with(&format!("{}-", host.trim())), "{name}");
        }
    }
}
