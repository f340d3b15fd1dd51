//! `meltemi tap`: calls as proxies handle them, for a time. It makes a `Tap` in the cluster, reads what proxies tell of it in
//! their logs, and deletes it; the Tap ends by itself, whatever becomes of this command.

mod call;
mod clock;
mod follow;
mod lines;
mod matchers;
mod target;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Error};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::api::aeraki::Status;
use crate::api::{LONGEST_TAP, Match, StringMatch, Tap as Resource, TapSpec, parse_duration};
use crate::check;
use crate::findings::Severity;
use crate::plain::Plain;
use crate::proxies::{Form, block_on, in_time};
use crate::{install, screen, words};
use call::{Call, Columns};
use clock::Clock;
use follow::{Followers, Told};
use target::{MOST_PODS, Selection};

/// Shows calls as proxies handle them.
#[derive(Debug, Args)]
pub struct Tap {
    /// Pods by name, or one deployment/NAME, statefulset/NAME, daemonset/NAME or service/NAME. Default: all pods with a proxy
    /// in the namespace.
    #[arg(value_name = "PODS")]
    targets: Vec<String>,
    /// The namespace. Default: the kubeconfig's.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only pods with these labels, such as app=cart,version=v2.
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<String>,
    /// Only calls whose attribute is so: NAME=VALUE (* at its ends is any text), NAME~REGEX, or != and !~. May be repeated:
    /// all must be so.
    #[arg(long = "match", short, value_name = "CONDITION", value_parser = matchers::condition)]
    conditions: Vec<(String, StringMatch)>,
    /// The share of these calls, in percent.
    #[arg(long, value_name = "PERCENT")]
    percent: Option<f64>,
    /// How long: 1s to 1h.
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = duration)]
    duration: Duration,
    /// End after so many calls.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Show the value of this attribute, too. May be repeated. Values go into the proxies' logs: name none that is secret.
    #[arg(long, short, value_name = "NAME")]
    attribute: Vec<String>,
    /// How calls are written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Form,
}

/// How often it is seen which pods there are, and what the controller says.
const LOOK: Duration = Duration::from_secs(2);

/// How long lines may be on their way when the tap is over.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// When the controller should have looked at the tap.
const SOON: Duration = Duration::from_secs(15);

/// When the API server should have deleted it.
const LONG: Duration = Duration::from_secs(10);

const UNSEEN: &str = "the controller has not looked at the tap: does it run, and is it of this version?";

const GONE: &str = "the tap is gone before its time: was it deleted, or is the controller's clock ahead of the API server's?";

const SLEPT: &str = "the tap is over: this machine slept meanwhile, or its clock was set; calls of that time may not be shown";

const FORBIDDEN: &str = "no log of these proxies may be read: `get` on pods/log is needed";

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|why| format!("{why}; write one such as 2m"))?;
    let is_possible = (Duration::from_secs(1)..=LONGEST_TAP).contains(&duration);
    is_possible.then_some(duration).ok_or_else(|| "write 1s to 1h".to_owned())
}

impl Tap {
    /// Shows calls until the time is over, there were enough, or the user ends it.
    ///
    /// # Errors
    ///
    /// There is no cluster, no such proxy in it, or the tap cannot be made there.
    pub fn run(&self) -> Result<ExitCode, String> {
        block_on(async {
            let client = install::connect().await?;
            let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
            let at = (&client, &*namespace);
            let selection = Selection::of(&self.targets, self.selector.as_deref(), at).await?;
            let tap = self.resource(&selection)?;
            let name = tap.metadata.name.clone().unwrap_or_default();
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let (mut followers, mut told) = Followers::new(pods, selection.clone(), (&name, Clock::start()));
            let mut over = Over::listen()?;
            let running = tokio::select! {
                () = over.asked() => return Ok(ExitCode::SUCCESS),
                looked = followers.look() => looked?.running,
            };
            if running.is_empty() || !selection.absent(&running).is_empty() {
                return Err(selection.nobody(&namespace, &running));
            }
            let count = running.len();
            if count > MOST_PODS {
                return Err(format!(
                    "{count} proxies, of which {MOST_PODS} can be followed; name some, or select them by -l"
                ));
            }
            let taps: Api<Resource> = Api::namespaced(client.clone(), &namespace);
            taps.create(&PostParams::default(), &tap).await.map_err(|error| not_made(&error, &namespace))?;
            let proxies = if count == 1 { "1 proxy".to_owned() } else { format!("{count} proxies") };
            screen::about(format_args!(
                "tapping {proxies} in {namespace} for {} ({name})",
                seconds(self.duration)
            ));
            let outcome = self.show(&mut followers, &mut told, (&taps, &name), &mut over).await;
            drop(told);
            // Who is in a hurry waits so long, and nobody much longer: after a sleep, connections may be dead.
            let hurry = async {
                sleep(ON_ITS_WAY).await;
                let _ = timeout(LONG, over.asked()).await;
            };
            tokio::select! {
                () = delete(&taps, &name) => {}
                () = hurry => screen::warn(format_args!("the tap {name} may be left, and ends by itself")),
            }
            outcome
        })
    }

    /// The tap, if it is a good one.
    fn resource(&self, selection: &Selection) -> Result<Resource, String> {
        let mut attributes = BTreeMap::new();
        for (name, matcher) in &self.conditions {
            if attributes.insert(name.clone(), matcher.clone()).is_some() {
                return Err(format!(
                    "--match {name}: an attribute has one condition; write it as one NAME~REGEX"
                ));
            }
        }
        let spec = TapSpec {
            duration: seconds(self.duration),
            selector: selection.selector(),
            pods: selection.pods.clone(),
            matches: (!attributes.is_empty()).then_some(Match { attributes }),
            percent: self.percent,
            attributes: self.attribute.clone(),
        };
        let name = format!("tap-{:016x}", RandomState::new().build_hasher().finish());
        let tap = Resource {
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            spec,
            status: None,
        };
        match check::tap(&tap).into_iter().find(|finding| finding.severity == Severity::Error) {
            Some(finding) => {
                Err(format!("{}: {}", finding.path.trim_start_matches("spec."), finding.message))
            }
            None => Ok(tap),
        }
    }

    /// Prints what proxies tell, until it is over.
    async fn show(
        &self,
        followers: &mut Followers,
        told: &mut mpsc::Receiver<Told>,
        (taps, name): (&Api<Resource>, &str),
        over: &mut Over,
    ) -> Result<ExitCode, String> {
        let clock = Clock::start();
        let end = Instant::now() + self.duration + ON_ITS_WAY;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut printer = Printer::new(self.output);
        let (mut left, mut is_taken) = (self.count, false);
        let is_early = || clock.elapsed() + LOOK + ON_ITS_WAY < self.duration;
        let mut has_slept = false;
        let mut warned = HashSet::new();
        // Of what goes on and on, once.
        let mut warn = |why: String| {
            if !warned.contains(&why) {
                screen::warn(&why);
                warned.insert(why);
            }
        };
        loop {
            tokio::select! {
                () = over.asked() => break,
                () = sleep_until(end) => break,
                next = told.recv() => match next {
                    Some(Told::Call(call)) => {
                        let Some(row) = printer.row(&call) else { continue };
                        // Nobody reads on.
                        if print(&row).is_err() {
                            break;
                        }
                        left = left.map(|left| left - 1);
                        if left == Some(0) {
                            break;
                        }
                    }
                    Some(Told::Ended(pod)) if is_early() => warn(format!(
                        "{pod}: tells of no more calls, as the tap has ended by its clock: is that of its node ahead of the API server's?"
                    )),
                    Some(Told::Ended(_)) => {}
                    Some(Told::Unreadable(why)) => warn(why),
                    None => break,
                },
                _ = ticks.tick() => {
                    if has_slept {
                        break;
                    }
                    has_slept = clock.has_slept() && clock.elapsed() >= self.duration + ON_ITS_WAY;
                    if has_slept {
                        warn(SLEPT.to_owned());
                        // What came meanwhile is shown yet.
                        continue;
                    }
                    let looked = async { (followers.look().await, standing(taps, name).await) };
                    let (looked, standing) = tokio::select! {
                        () = over.asked() => break,
                        looked = looked => looked,
                    };
                    match looked {
                        Ok(looked) if looked.is_forbidden => {
                            while let Ok(Told::Unreadable(why)) = told.try_recv() {
                                warn(why);
                            }
                            return Err(FORBIDDEN.to_owned());
                        }
                        Ok(looked) => not_followed(&looked.left_out).into_iter().for_each(&mut warn),
                        Err(why) => warn(why),
                    }
                    match standing? {
                        Standing::Taken(remark) => {
                            is_taken = true;
                            remark.into_iter().for_each(&mut warn);
                        }
                        Standing::Gone => {
                            if is_early() {
                                warn(GONE.to_owned());
                            }
                            break;
                        }
                        Standing::Unknown => {}
                    }
                    if !is_taken && clock.awake() > SOON {
                        warn(UNSEEN.to_owned());
                    }
                }
            }
        }
        if printer.suppressed > 0 {
            screen::warn(format_args!(
                "{} more calls are not told of, as there were too many; --percent and --match take fewer",
                printer.suppressed
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes calls.
struct Printer {
    columns: Option<Columns>,
    suppressed: u64,
}

impl Printer {
    fn new(form: Form) -> Self {
        let columns = match form {
            Form::Json => None,
            Form::Table => {
                let (columns, titles) = Columns::new();
                screen::heading(titles);
                Some(columns)
            }
        };
        Self { columns, suppressed: 0 }
    }

    /// What is printed of it, if it is a call; counts those that are not told of.
    fn row(&mut self, call: &Call) -> Option<String> {
        self.suppressed += call.suppressed();
        let is_call = !call.is_none();
        is_call.then(|| match &mut self.columns {
            Some(columns) => columns.row(call),
            None => call.json(),
        })
    }
}

fn print(row: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{row}")?;
    output.flush()
}

/// How a user or a system ends a command.
struct Over {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Over {
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// What the controller says of a tap.
#[derive(Debug, PartialEq)]
enum Standing {
    /// Nothing yet; or it cannot be asked, which is no reason to end: the proxies may tell all the same.
    Unknown,
    /// That it takes it, and what is to be said of that.
    Taken(Option<String>),
    /// There is no such tap any more.
    Gone,
}

async fn standing(taps: &Api<Resource>, name: &str) -> Result<Standing, String> {
    match in_time(taps.get_opt(name)).await {
        Ok(tap) => stands(tap),
        Err(_) => Ok(Standing::Unknown),
    }
}

fn stands(tap: Option<Resource>) -> Result<Standing, String> {
    let Some(tap) = tap else { return Ok(Standing::Gone) };
    let conditions = tap.status.map(|Status { conditions, .. }| conditions).unwrap_or_default();
    let Some(accepted) = conditions.into_iter().find(|condition| condition.type_ == "Accepted") else {
        return Ok(Standing::Unknown);
    };
    match (&*accepted.status, &*accepted.reason) {
        ("True", "Accepted") => Ok(Standing::Taken(None)),
        ("True", _) => Ok(Standing::Taken(Some(accepted.message))),
        _ => Err(format!("the controller does not take the tap: {}", Plain(accepted.message))),
    }
}

/// What is said of pods that came and are not followed.
fn not_followed(pods: &[String]) -> Option<String> {
    let named = pods.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = pods.len().saturating_sub(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!pods.is_empty()).then(|| {
        format!("{named}{more}: came, and cannot be followed: {MOST_PODS} proxies are; name some, or select them by -l")
    })
}

/// Deletes the tap. It may have ended by itself.
async fn delete(taps: &Api<Resource>, name: &str) {
    match taps.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(Error::Api(status)) if status.is_not_found() => {}
        Err(error) => screen::warn(format_args!(
            "the tap {name} cannot be deleted, and ends by itself: {}",
            words::cluster(&error)
        )),
    }
}

fn not_made(error: &Error, namespace: &str) -> String {
    match error {
        Error::Api(status) if status.is_not_found() => format!(
            "the cluster has no namespace {namespace}, or no kind Tap: `meltemi crds | kubectl apply --server-side -f -` defines it"
        ),
        error => format!("the tap cannot be made: {}", words::cluster(error)),
    }
}

/// A duration as resources have it.
fn seconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis()).replace("000ms", "s")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_bounded_and_written_as_they_are_read() {
        for (text, written) in
            [("2m", "120s"), ("1500ms", "1500ms"), ("1h", "3600s"), ("1m40s", "100s"), ("1000s", "1000s")]
        {
            let duration = duration(text).unwrap();
            assert_eq!(seconds(duration), written);
            assert_eq!(parse_duration(&seconds(duration)), Ok(duration), "{text}");
        }
        for wrong in ["", "5", "0s", "999ms", "61m", "soon", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_tap_left_out_is_counted_and_is_no_row() {
        let take = |printer: &mut Printer, reason: &str, left_out: serde_json::Value| {
            let line = json!({"event": "tap", "reason": reason, "suppressed": 50, "taps": {"all": {}, "gray": {}},
                "suppressedByTap": left_out});
            let (time, line) = lines::read(&format!("meltemi: {line}"), "gray").unwrap();
            printer.row(&Call::new("cart-1", time, line)).is_some()
        };
        for form in [Form::Json, Form::Table] {
            let mut printer = Printer::new(form);
            assert!(take(&mut printer, "success", json!({"all": 43, "gray": 7})));
            assert_eq!(printer.suppressed, 7, "the rest is of another tap");
            assert!(!take(&mut printer, "left_out", json!({"gray": 50})));
            assert_eq!(printer.suppressed, 57);
            assert!(take(&mut printer, "success", json!({"all": 50, "gray": 0})));
            assert_eq!(printer.suppressed, 57);
        }
    }

    #[test]
    fn pods_that_are_left_out_are_named_as_far_as_they_are_few() {
        let of = |count| not_followed(&Vec::from_iter((0..count).map(|pod| format!("p{pod}"))));
        assert_eq!(of(0), None);
        assert!(of(1).unwrap().starts_with("p0: came, "), "{:?}", of(1));
        assert!(of(5).unwrap().starts_with("p0, p1, p2 and 2 more: came, "), "{:?}", of(5));
    }

    #[test]
    fn taps_stand_as_the_controller_says() {
        let of = |status: serde_json::Value| {
            stands(serde_json::from_value(json!({
                "apiVersion": "meltemi.io/v1alpha1", "kind": "Tap", "metadata": {}, "spec": {}, "status": status,
            })).unwrap())
        };
        let accepted = |status: &str, reason: &str| {
            let condition = json!({"type": "Accepted", "status": status, "reason": reason, "message": "so",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            of(json!({"conditions": [condition]}))
        };
        assert_eq!(of(json!(null)), Ok(Standing::Unknown));
        assert_eq!(accepted("True", "Accepted"), Ok(Standing::Taken(None)));
        assert_eq!(accepted("True", "Partly"), Ok(Standing::Taken(Some("so".to_owned()))));
        assert_eq!(accepted("False", "Refused"), Err("the controller does not take the tap: so".to_owned()));
        assert_eq!(stands(None), Ok(Standing::Gone), "deleted, or over by the clock of another");
    }
}
