use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use meltemi_codecs::Dubbo;
use meltemi_codecs::dubbo::message::Answer;
use meltemi_codecs::dubbo::status;

use super::Error;
use super::stage::{PLAN_LIMIT, Stage};
use crate::sample::{Call, Client, Reply};
use crate::{decode, screen};

/// Calls in flight at a time on a connection.
const IN_FLIGHT: usize = 8;

/// Calls go to the server with the fewest in flight, so that a faster one gets more of them. Both are equal to calls that
/// are made one by one.
const ONE_BY_ONE: usize = 1;

/// The retries that Meltemi has made, as Envoy counts them.
const RETRIES: &str = r"^wasmcustom\.meltemi\..*retries_total$";

/// How long to wait for the counts, which reach Envoy four times a second.
const COUNTS_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take until a server under load has calls in it when it dies.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// Shows every step.
pub fn all(stage: &mut Stage) -> Result<Score, Error> {
    let mut steps = Steps { stage, number: 0, score: Score::default() };
    steps.balance()?;
    steps.route()?;
    steps.split()?;
    steps.change()?;
    steps.kill()?;
    steps.refuse()?;
    Ok(steps.score)
}

/// How many checks were made, and how many of them failed.
#[derive(Debug, Default)]
pub struct Score {
    total: usize,
    failed: usize,
}

impl Score {
    /// Reports that all checks passed, or fails with how many did not.
    pub fn conclude(&self) -> Result<(), Error> {
        let Self { total, failed } = *self;
        if failed > 0 {
            return Err(Error::False { failed, total });
        }
        screen::title(format_args!("All {total} checks passed."));
        Ok(())
    }
}

struct Steps<'a> {
    stage: &'a mut Stage,
    number: usize,
    score: Score,
}

impl Steps<'_> {
    fn balance(&mut self) -> Result<(), Error> {
        self.title("Every request is balanced on its own, on one client connection");
        screen::say(
            "a plan without routes: calls go to the cluster that the listener names, which has both servers",
        );
        self.stage.put_in_force("{}")?;
        let mut plain = Client::connect(self.stage.plain).map_err(Error::io("cannot connect to Envoy"))?;
        let call = Call::new("sayHello", "demo");
        let there = tally(&plain.call_many(500, ONE_BY_ONE, |_| call).map_err(Error::io("a call failed"))?);
        let here = self.call_with(500, ONE_BY_ONE, call)?;
        screen::say(format_args!("500 calls on one connection through plain tcp_proxy: {there}"));
        screen::say(format_args!("500 calls on one connection through Meltemi:         {here}"));
        self.claim(here.is_complete(500), "every call was answered");
        self.claim(here.is_spread(), "both servers got their share of one connection");
        Ok(())
    }

    fn route(&mut self) -> Result<(), Error> {
        self.title("Calls are routed by method and by attachment");
        self.plan(
            r#"{"routes": [
  {"name": "writes", "match": [{"attributes": {"method": {"prefix": "save"}}}], "cluster": "v1"},
  {"name": "canary", "match": [{"attributes": {"tag": {"exact": "canary"}}}], "cluster": "v2"}
]}"#,
        )?;
        let saved = self.call(100, Call::new("saveGreeting", "demo"))?;
        let tagged = self.call(100, Call::new("sayHello", "demo").with(&[("tag", "canary")]))?;
        let other = Call::new("sayHello", "demo").with(&[("tag", "stable")]);
        let others = self.call_with(100, ONE_BY_ONE, other)?;
        screen::say(format_args!("100 calls of saveGreeting:            {saved}"));
        screen::say(format_args!("100 calls of sayHello, tag=canary:    {tagged}"));
        screen::say(format_args!("100 calls of sayHello, tag=stable:    {others}"));
        self.claim(saved.is_all("v1", 100), "the method took its calls to v1");
        self.claim(tagged.is_all("v2", 100), "the attachment took its calls to v2");
        self.claim(others.is_spread(), "all others are balanced as before");
        Ok(())
    }

    fn split(&mut self) -> Result<(), Error> {
        self.title("A share of the calls goes to a new version");
        self.plan(
            r#"{"defaultRoute": {"weightedClusters": [{"cluster": "v1", "weight": 90}, {"cluster": "v2", "weight": 10}]}}"#,
        )?;
        let split = self.call(2000, Call::new("sayHello", "demo"))?;
        screen::say(format_args!("2000 calls: {split}"));
        self.claim(split.is_complete(2000), "every call was answered");
        // 10 % of 2000 calls: more than five standard deviations on either side.
        self.claim(
            (0.065..0.135).contains(&split.share("v2")),
            "v2 got a tenth of them, as far as chance goes",
        );
        Ok(())
    }

    fn change(&mut self) -> Result<(), Error> {
        self.title("The plan is changed while calls are made, and open connections follow");
        self.plan(r#"{"defaultRoute": {"cluster": "v1"}}"#)?;
        let connection = self.address()?;
        let before = self.call(200, Call::new("sayHello", "demo"))?;
        let next = r#"{"defaultRoute": {"cluster": "v2"}}"#;
        screen::say("the file is saved again, while calls go on:");
        screen::detail(next);
        self.stage.save(next)?;
        let saved = Instant::now();
        let mut during = Tally::default();
        let mut asked = 0;
        let mut took = None;
        while took.is_none() && saved.elapsed() < PLAN_LIMIT {
            let batch = self.call(100, Call::new("sayHello", "demo"))?;
            asked += 100;
            took = (batch.share("v2") == 1.0).then(|| saved.elapsed());
            during.add(&batch);
        }
        let after = self.call(200, Call::new("sayHello", "demo"))?;
        screen::say(format_args!("200 calls before:   {before}"));
        screen::say(format_args!("{asked} calls meanwhile: {during}"));
        screen::say(format_args!("200 calls after:    {after}"));
        if let Some(took) = took {
            screen::say(format_args!(
                "all calls follow the new plan {} ms after it was saved",
                took.as_millis()
            ));
        }
        self.claim(before.is_all("v1", 200) && after.is_all("v2", 200), "the calls moved from v1 to v2");
        self.claim(during.is_complete(asked), "no call was lost");
        let same = self.address()? == connection;
        self.claim(same, format_args!("the client's connection, from {connection}, is the same"));
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Error> {
        self.title("A server dies under load, and every call is answered");
        self.plan(
            r#"{
  "defaultRoute": {"retry": {"attempts": 3, "on": ["connect-failure", "reset"]}},
  "retryBudget": {"percent": 100}
}"#,
        )?;
        let earlier = self.stage.envoy.admin().sum(RETRIES)?;
        let load = Load { clients: 4, calls: 1000 };
        let (replies, lost) = self.under_load(&load)?;
        let admin = self.stage.envoy.admin();
        let counted = admin.wait(RETRIES, COUNTS_LIMIT, |retries| retries >= earlier + lost);
        let retries = counted.or_else(|_| admin.sum(RETRIES))? - earlier;
        let total = load.clients * load.calls;
        let errors = replies.iter().find(|reply| reply.server().is_none());
        let tally = tally(&replies);
        screen::say(format_args!(
            "{total} calls on {} connections, v1 killed in between: {tally}",
            load.clients
        ));
        screen::say(format_args!("{lost} calls were in v1 when it died; Meltemi made {retries} retries"));
        if let Some(reply) = errors {
            screen::say(format_args!("an answer that is an error: {:?}", reply.answer));
        }
        self.claim(lost > 0, "calls were lost with the server");
        self.claim(tally.is_complete(total), "every call was answered, and by a server");
        self.claim(retries >= lost, "Envoy's metrics show the retries");
        self.stage.v1.revive().map_err(Error::io("cannot start the server v1 again"))
    }

    /// Puts the demo's servers under load, kills v1 amid it, and returns the answers and how many calls v1 took with it.
    fn under_load(&mut self, load: &Load) -> Result<(Vec<Reply>, u64), Error> {
        let address = self.stage.address;
        let v1 = &mut self.stage.v1;
        // About a quarter of all calls, of which the other server answers as many.
        v1.hang_after((load.clients * load.calls / 8) as u64);
        thread::scope(|scope| {
            let client = || -> std::io::Result<Vec<Reply>> {
                let mut client = Client::connect(address)?;
                client.call_many(load.calls, 2 * IN_FLIGHT, |_| Call::new("sayHello", "demo"))
            };
            let clients: Vec<_> = (0..load.clients).map(|_| scope.spawn(client)).collect();
            let over = || clients.iter().all(|client| client.is_finished());
            let start = Instant::now();
            while v1.swallowed() < 10 && start.elapsed() < LOAD_LIMIT && !over() {
                thread::sleep(Duration::from_millis(1));
            }
            v1.kill();
            let lost = v1.swallowed();
            let mut replies = Vec::new();
            for client in clients {
                let answered =
                    client.join().unwrap_or_else(|_| Err(std::io::Error::other("a client panicked")));
                replies.extend(answered.map_err(Error::io("a call under load failed"))?);
            }
            Ok((replies, lost))
        })
    }

    fn refuse(&mut self) -> Result<(), Error> {
        self.title("A call that no route matches is answered with an error of Dubbo's own");
        self.plan(
            r#"{
  "routes": [{"name": "greetings", "match": [{"attributes": {"method": {"prefix": "sayHello"}}}]}],
  "onNoMatch": "reject"
}"#,
        )?;
        let client = &mut self.stage.client;
        let refused = client.call(Call::new("dropAll", "demo")).map_err(Error::io("a call failed"))?;
        let served = client.call(Call::new("sayHello", "demo")).map_err(Error::io("a call failed"))?;
        screen::say("the answer to a call of dropAll, as `meltemi decode` shows it:");
        screen::detail(decoded(&refused.frame));
        let error = matches!(&refused.answer, Answer::Error { status: status::SERVICE_NOT_FOUND, .. });
        self.claim(error, "the client got SERVICE_NOT_FOUND, which Dubbo makes an exception of");
        self.claim(served.server().is_some(), "the connection serves the next call");
        Ok(())
    }

    fn title(&mut self, text: &str) {
        self.number += 1;
        screen::title(format_args!("{}. {text}", self.number));
    }

    /// Shows the service of the plan and puts it in force.
    fn plan(&mut self, fields: &str) -> Result<(), Error> {
        screen::detail(fields);
        self.stage.put_in_force(fields)
    }

    /// Makes calls on the demo's one client connection.
    fn call(&mut self, count: usize, call: Call<'_>) -> Result<Tally, Error> {
        self.call_with(count, IN_FLIGHT, call)
    }

    fn call_with(&mut self, count: usize, in_flight: usize, call: Call<'_>) -> Result<Tally, Error> {
        let replies = self.stage.client.call_many(count, in_flight, |_| call);
        Ok(tally(&replies.map_err(Error::io("a call failed"))?))
    }

    fn address(&self) -> Result<std::net::SocketAddr, Error> {
        self.stage.client.local_address().map_err(Error::io("the client's connection is gone"))
    }

    fn claim(&mut self, holds: bool, statement: impl fmt::Display) {
        screen::verdict(holds, statement);
        self.score.total += 1;
        self.score.failed += usize::from(!holds);
    }
}

/// What `meltemi decode` prints for a frame.
fn decoded(frame: &[u8]) -> String {
    let mut lines = Vec::new();
    match decode::decode(&Dubbo, decode::MAX_FRAME_BYTES, frame, &mut lines) {
        Ok(()) => String::from_utf8_lossy(&lines).into_owned(),
        Err(error) => error.to_string(),
    }
}

struct Load {
    clients: usize,
    calls: usize,
}

/// How many calls each server answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally(BTreeMap<String, usize>);

fn tally(replies: &[Reply]) -> Tally {
    let mut tally = Tally::default();
    for reply in replies {
        *tally.0.entry(reply.server().unwrap_or(Tally::ERROR).to_owned()).or_default() += 1;
    }
    tally
}

impl Tally {
    /// What takes the place of a server for calls that ended with an error.
    const ERROR: &str = "error";

    fn add(&mut self, other: &Self) {
        for (server, count) in &other.0 {
            *self.0.entry(server.clone()).or_default() += count;
        }
    }

    fn of(&self, server: &str) -> usize {
        self.0.get(server).copied().unwrap_or_default()
    }

    fn total(&self) -> usize {
        self.0.values().sum()
    }

    fn share(&self, server: &str) -> f64 {
        self.of(server) as f64 / self.total().max(1) as f64
    }

    /// Whether so many calls were answered, none with an error.
    fn is_complete(&self, count: usize) -> bool {
        self.total() == count && self.of(Self::ERROR) == 0
    }

    /// Whether both servers got a good part of the calls.
    fn is_spread(&self) -> bool {
        self.share("v1") > 0.25 && self.share("v2") > 0.25
    }

    /// Whether `server` answered all of so many calls.
    fn is_all(&self, server: &str, count: usize) -> bool {
        self.total() == count && self.of(server) == count
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1 {}, v2 {}", self.of("v1"), self.of("v2"))?;
        match self.of(Self::ERROR) {
            0 => Ok(()),
            errors => write!(f, ", errors {errors}"),
        }
    }
}
