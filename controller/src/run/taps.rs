//! Taps end: what they say is left out of plans from then on, and they are deleted.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, Error, ResourceExt};
use tokio::time::Instant;
use tracing::{info, warn};

use super::apply::limited;
use crate::api::Tap;

/// Those of `taps` that have not ended, and when the first of these does.
pub fn still_on(taps: Vec<Tap>, now: Timestamp) -> (Vec<Tap>, Option<Timestamp>) {
    let on: Vec<Tap> = taps.into_iter().filter(|tap| !is_over(tap, now)).collect();
    let next = on.iter().filter_map(Tap::end).min();
    (on, next)
}

fn is_over(tap: &Tap, now: Timestamp) -> bool {
    tap.end().is_some_and(|end| end <= now)
}

/// When a time comes.
pub fn instant(time: Timestamp, now: Timestamp) -> Instant {
    let left = Duration::try_from(time.duration_since(now)).unwrap_or_default();
    Instant::now() + left
}

/// Deletes those of `taps` that have ended. One that cannot be deleted tells nothing any more, and is tried again.
pub async fn delete_ended(client: &Client, taps: Vec<Tap>, now: Timestamp) {
    for tap in taps.into_iter().filter(|tap| is_over(tap, now) && tap.metadata.deletion_timestamp.is_none()) {
        let (namespace, name) = (tap.namespace().unwrap_or_default(), tap.name_any());
        let preconditions = Preconditions { uid: tap.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api: Api<Tap> = Api::namespaced(client.clone(), &namespace);
        let gone = async {
            match api.delete(&name, &params).await {
                Ok(_) => Ok(()),
                // It went meanwhile, or another of the name came.
                Err(Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                Err(error) => Err(error),
            }
        };
        match limited(gone).await {
            Ok(()) => info!(kind = "Tap", name = format!("{namespace}/{name}"), "ended"),
            Err(error) => warn!(kind = "Tap", name = format!("{namespace}/{name}"), error, "cannot delete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tap(made: i64, duration: &str) -> Tap {
        let made = Timestamp::from_second(made).unwrap().to_string();
        let metadata = json!({"name": "t", "namespace": "shop", "creationTimestamp": made});
        serde_json::from_value(json!({
            "apiVersion": "meltemi.io/v1alpha1", "kind": "Tap", "metadata": metadata, "spec": {"duration": duration},
        }))
        .unwrap()
    }

    #[test]
    fn taps_end_after_their_time_and_an_hour_at_most() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ends = ["1m30s", "1h", "9999h", "soon"].map(|duration| tap(1000, duration).end());
        assert_eq!(ends, [Some(at(1090)), Some(at(4600)), Some(at(4600)), None]);
        let taps = || vec![tap(1000, "10s"), tap(1000, "30s"), tap(1000, "20s")];
        let on = |now| {
            let (on, next) = still_on(taps(), at(now));
            (on.len(), next)
        };
        assert_eq!(on(1009), (3, Some(at(1010))));
        assert_eq!(on(1010), (2, Some(at(1020))));
        assert_eq!(on(1030), (0, None));
    }
}
