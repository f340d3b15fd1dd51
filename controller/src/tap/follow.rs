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

use super::call::Call;
use super::clock::Clock;
use super::lines::{ENDED, Lines, read};
use super::target::{MOST_PODS, Selection};
use crate::proxies::CONTAINER;
use crate::words;

/// What comes of a pod's log.
#[derive(Debug)]
pub(super) enum Told {
    /// A call.
    Call(Box<Call>),
    /// The tap has ended by the clock of the pod of that name.
    Ended(String),
    /// The log cannot be read.
    Unreadable(String),
}

/// Follows the logs of the selected pods, those that come later among them.
pub(super) struct Followers {
    pods: Api<Pod>,
    selection: Selection,
    tap: Arc<str>,
    tell: mpsc::Sender<Told>,
    /// Since this began: nothing that was written before is asked for.
    clock: Clock,
    tasks: JoinSet<(String, Known)>,
    known: HashMap<String, Known>,
}

/// What is known of a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Followed,
    /// Its log ended, with that line as the last one.
    Ended(Option<Timestamp>),
    /// There are too many others. Its log may have been followed before, with that line as the last one.
    LeftOut(Option<Timestamp>),
    /// This user may not read its log.
    Forbidden,
}

/// Which pods there are.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Looked {
    /// Those whose proxies run.
    pub(super) running: Vec<String>,
    /// Those of them that are not followed, as there are too many: each is told once.
    pub(super) left_out: Vec<String>,
    /// There are some, and this user may read no log of theirs.
    pub(super) is_forbidden: bool,
}

/// What is asked for reaches back so much further: clocks of two machines are no better.
const MARGIN: Duration = Duration::from_secs(2);

impl Followers {
    /// Of the lines of the tap of that name; and what comes of them.
    pub(super) fn new(
        pods: Api<Pod>,
        selection: Selection,
        (tap, clock): (&str, Clock),
    ) -> (Self, mpsc::Receiver<Told>) {
        let (tell, told) = mpsc::channel(256);
        let followers = Self {
            pods,
            selection,
            tap: tap.into(),
            tell,
            clock,
            tasks: JoinSet::new(),
            known: HashMap::new(),
        };
        (followers, told)
    }

    /// Looks which pods there are, and follows those that are not followed: that came, or whose proxy began anew.
    pub(super) async fn look(&mut self) -> Result<Looked, String> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok((pod, known)) = ended {
                self.known.insert(pod, known);
            }
        }
        let running = self.selection.running(&self.pods).await?;
        let (next, left_out) = next(&running, &mut self.known);
        for (pod, mut last) in next {
            let since = i64::try_from((self.clock.elapsed() + MARGIN).as_secs() + 1).unwrap_or(i64::MAX);
            let (pods, tap, tell) = (self.pods.clone(), self.tap.clone(), self.tell.clone());
            self.tasks.spawn(async move {
                let Err(error) = follow(&pods, &pod, (since, &tap), &mut last, &tell).await else {
                    return (pod, Known::Ended(last));
                };
                let (why, known) = unreadable(&pod, &error, last);
                let _ = tell.send(Told::Unreadable(why)).await;
                (pod, known)
            });
        }
        let is_forbidden = are_forbidden(&running, &self.known);
        Ok(Looked { running, left_out, is_forbidden })
    }
}

/// Which of the pods that run are followed from now on, from which line of their logs, and which are left out that were not
/// before. Logs of pods that have gone end by themselves, and take nobody's place.
fn next(
    running: &[String],
    known: &mut HashMap<String, Known>,
) -> (Vec<(String, Option<Timestamp>)>, Vec<String>) {
    let is_followed = |pod: &&String| known.get(*pod) == Some(&Known::Followed);
    let mut room = MOST_PODS.saturating_sub(running.iter().filter(is_followed).count());
    let (mut next, mut left_out) = (Vec::new(), Vec::new());
    for pod in running {
        let last = match known.get(pod) {
            Some(Known::Followed | Known::Forbidden) => continue,
            Some(Known::Ended(last) | Known::LeftOut(last)) => *last,
            None => None,
        };
        if room > 0 {
            room -= 1;
            known.insert(pod.clone(), Known::Followed);
            next.push((pod.clone(), last));
        } else if !matches!(known.insert(pod.clone(), Known::LeftOut(last)), Some(Known::LeftOut(_))) {
            left_out.push(pod.clone());
        }
    }
    (next, left_out)
}

/// Whether this user may read no log of the pods that run.
fn are_forbidden(running: &[String], known: &HashMap<String, Known>) -> bool {
    !running.is_empty() && running.iter().all(|pod| known.get(pod) == Some(&Known::Forbidden))
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
            let told = match line.reason == ENDED {
                true => Told::Ended(pod.to_owned()),
                false => Told::Call(Box::new(Call::new(pod, time, line))),
            };
            if tell.send(told).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Why a pod's log is not followed, with that line as the last one, and what is known of the pod by that.
fn unreadable(pod: &str, error: &Error, last: Option<Timestamp>) -> (String, Known) {
    let why = format!("{pod}: its log cannot be read: {}", words::cluster(error));
    match error {
        Error::Api(status) if status.code == 403 => {
            (format!("{why}; `get` on pods/log is needed, and its calls are not shown"), Known::Forbidden)
        }
        _ => (why, Known::Ended(last)),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn pods_that_come_are_followed_as_far_as_there_is_room() {
        let pods = |range: std::ops::Range<usize>| Vec::from_iter(range.map(|pod| format!("a-{pod:03}")));
        let mut known = HashMap::new();
        let mut look = |running: &[String]| {
            let (begun, left_out) = next(running, &mut known);
            (begun.into_iter().map(|(pod, _)| pod).collect::<Vec<_>>(), left_out)
        };
        assert_eq!(look(&pods(0..MOST_PODS - 1)), (pods(0..MOST_PODS - 1), Vec::new()));
        let all = pods(0..MOST_PODS + 2);
        assert_eq!(look(&all), (pods(MOST_PODS - 1..MOST_PODS), pods(MOST_PODS..MOST_PODS + 2)));
        assert_eq!(look(&all), (Vec::new(), Vec::new()), "it is told once");
        // One goes, though its log may have not ended.
        assert_eq!(look(&all[1..]), (pods(MOST_PODS..MOST_PODS + 1), Vec::new()));
    }

    #[test]
    fn a_log_that_ended_is_read_on() {
        let last: Option<Timestamp> = "2026-11-30T04:05:06Z".parse().ok();
        let mut known = HashMap::from([("a".to_owned(), Known::Ended(last))]);
        let running = ["a".to_owned()];
        assert_eq!(next(&running, &mut known), (vec![("a".to_owned(), last)], Vec::new()));
        assert_eq!(next(&running, &mut known), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_log_that_is_left_out_for_a_while_is_read_on() {
        let last: Option<Timestamp> = "2026-11-30T04:05:06Z".parse().ok();
        let others = Vec::from_iter((0..MOST_PODS).map(|pod| format!("a-{pod:03}")));
        let mut known = HashMap::from_iter(others.iter().map(|pod| (pod.clone(), Known::Followed)));
        known.insert("z".to_owned(), Known::Ended(last));
        let mut running = others;
        running.push("z".to_owned());
        assert_eq!(next(&running, &mut known), (Vec::new(), vec!["z".to_owned()]));
        assert_eq!(next(&running, &mut known), (Vec::new(), Vec::new()));
        running.remove(0);
        assert_eq!(next(&running, &mut known), (vec![("z".to_owned(), last)], Vec::new()));
    }

    #[test]
    fn who_may_not_read_a_log_is_told_what_is_needed() {
        let last = "2026-11-30T04:05:06Z".parse().ok();
        let of = |code| unreadable("a", &Error::Api(Status::failure("no", "").with_code(code).boxed()), last);
        let needed =
            "a: its log cannot be read: no; `get` on pods/log is needed, and its calls are not shown";
        assert_eq!(of(403), (needed.to_owned(), Known::Forbidden));
        // A container that begins anew, say.
        assert_eq!(of(400), ("a: its log cannot be read: no".to_owned(), Known::Ended(last)));
    }

    #[test]
    fn who_may_read_no_log_follows_none() {
        let running = ["a", "b"].map(str::to_owned);
        let mut known = HashMap::from([("a".to_owned(), Known::Forbidden)]);
        assert!(!are_forbidden(&running, &known) && !are_forbidden(&[], &known));
        assert_eq!(next(&running, &mut known), (vec![("b".to_owned(), None)], Vec::new()), "nor asks again");
        assert!(!are_forbidden(&running, &known), "b may be read");
        known.insert("b".to_owned(), Known::Forbidden);
        assert!(are_forbidden(&running, &known));
        known.insert("b".to_owned(), Known::LeftOut(None));
        assert!(!are_forbidden(&running, &known));
    }
}
