//! The logs of proxies, as they are written.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::LogParams;
use kube::{Api, Error};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::call::Call;
use super::lines::{Lines, read};
use super::target::{MOST_PODS, Selection};
use crate::proxies::CONTAINER;
use crate::words;

/// What comes of a pod's log.
#[derive(Debug)]
pub(super) enum Told {
    /// A call.
    Call(Box<Call>),
    /// The log cannot be read.
    Unreadable(String),
    /// It may not be read by this user.
    Forbidden(String),
}

/// Follows the logs of the selected pods, those that come later among them.
pub(super) struct Followers {
    pods: Api<Pod>,
    selection: Selection,
    tap: Arc<str>,
    tell: mpsc::Sender<Told>,
    /// When this began: nothing that was written before is asked for.
    begun: Instant,
    tasks: JoinSet<(String, Option<Timestamp>)>,
    /// Those that are followed, and of the others the last line that was read.
    known: HashMap<String, Known>,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    Followed,
    Ended(Option<Timestamp>),
}

/// What is asked for reaches back so much further: clocks of two machines are no better.
const MARGIN: Duration = Duration::from_secs(2);

impl Followers {
    /// Of the lines of the tap of that name; and what comes of them.
    pub(super) fn new(pods: Api<Pod>, selection: Selection, tap: &str) -> (Self, mpsc::Receiver<Told>) {
        let (tell, told) = mpsc::channel(256);
        let followers = Self {
            pods,
            selection,
            tap: tap.into(),
            tell,
            begun: Instant::now(),
            tasks: JoinSet::new(),
            known: HashMap::new(),
        };
        (followers, told)
    }

    /// Looks which pods there are, and follows those that are not followed: that came, or whose proxy began anew.
    pub(super) async fn look(&mut self) -> Result<Vec<String>, String> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok((pod, last)) = ended {
                self.known.insert(pod, Known::Ended(last));
            }
        }
        let running = self.selection.running(&self.pods).await?;
        for pod in running.iter().take(MOST_PODS) {
            let last = match self.known.get(pod) {
                Some(Known::Followed) => continue,
                Some(Known::Ended(last)) => *last,
                None => None,
            };
            self.known.insert(pod.clone(), Known::Followed);
            let since = i64::try_from((self.begun.elapsed() + MARGIN).as_secs() + 1).unwrap_or(i64::MAX);
            let (pods, tap, tell) = (self.pods.clone(), self.tap.clone(), self.tell.clone());
            let pod = pod.clone();
            self.tasks.spawn(async move {
                let mut last = last;
                if let Err(error) = follow(&pods, &pod, (since, &tap), &mut last, &tell).await {
                    let _ = tell.send(unreadable(&pod, &error)).await;
                }
                (pod, last)
            });
        }
        Ok(running)
    }
}

/// Reads a log until it ends, from so many seconds ago. What is not after `last` was read before.
async fn follow(
    pods: &Api<Pod>,
    pod: &str,
    (since, tap): (i64, &str),
    last: &mut Option<Timestamp>,
    tell: &mpsc::Sender<Told>,
) -> Result<(), Error> {
    let params = LogParams {
        container: Some(CONTAINER.to_owned()),
        follow: true,
        since_seconds: Some(since),
        timestamps: true,
        ..LogParams::default()
    };
    let log = pods.log_stream(pod, &params).await?;
    let mut log = pin!(log);
    let mut lines = Lines::default();
    let mut bytes = vec![0; 16 << 10];
    // A clock may be set back while a log is written: what this reading brings is told, whatever its time.
    let before = *last;
    // A log whose reading breaks off is read on as one that ends.
    while let Ok(count @ 1..) = log.read(&mut bytes).await {
        for line in lines.take(bytes.get(..count).unwrap_or_default()) {
            let Some((time, line)) = read(&line, tap) else { continue };
            if time.is_some() && time <= before {
                continue;
            }
            *last = time.max(*last);
            if tell.send(Told::Call(Box::new(Call::new(pod, time, line)))).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Why a pod's log is not followed.
fn unreadable(pod: &str, error: &Error) -> Told {
    let why = format!("{pod}: its log cannot be read: {}", words::cluster(error));
    match error {
        Error::Api(status) if status.code == 403 => {
            Told::Forbidden(format!("{why}; `get` on pods/log is needed"))
        }
        _ => Told::Unreadable(why),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn who_may_not_read_logs_is_told_what_is_needed() {
        let of = |code| unreadable("a", &Error::Api(Status::failure("no", "").with_code(code).boxed()));
        let Told::Forbidden(why) = of(403) else { panic!() };
        assert_eq!(why, "a: its log cannot be read: no; `get` on pods/log is needed");
        // A container that begins anew, say.
        let Told::Unreadable(why) = of(400) else { panic!() };
        assert_eq!(why, "a: its log cannot be read: no");
    }
}
