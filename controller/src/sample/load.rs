//! Calls at a steady rate, and who answers them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use meltemi_codecs::dubbo::message::Answer;
use meltemi_codecs::{Codec, Dubbo};

use super::{Call, Client, Reply};

/// How often it is reported who answered.
const REPORT: Duration = Duration::from_secs(1);

/// What to call, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// A name or an address, and the port. Looked up anew for each connection.
    pub address: String,
    /// Calls in a second, on all connections.
    pub rate: u32,
    /// How many connections share the calls.
    pub connections: u32,
    /// How many calls to make; `None` goes on for ever.
    pub calls: Option<u64>,
    /// Methods, called in turn.
    pub methods: Vec<String>,
    /// Attachments of each request.
    pub attachments: Vec<(String, String)>,
}

/// How calls ended: by server, or by what went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    answered: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}

impl Outcomes {
    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.answered.values().sum::<u64>() + self.failed()
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Counts those of `others` too.
    pub fn add(&mut self, others: &Self) {
        let pairs = [(&mut self.answered, &others.answered), (&mut self.failed, &others.failed)];
        for (mine, theirs) in pairs {
            for (name, count) in theirs {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
    }

    fn count(&mut self, outcome: Result<String, String>) {
        let (counts, name) = match outcome {
            Ok(server) => (&mut self.answered, server),
            Err(why) => (&mut self.failed, why),
        };
        *counts.entry(name).or_default() += 1;
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls", self.calls())?;
        let mut separator = ": ";
        for (name, count) in self.answered.iter().chain(&self.failed) {
            write!(f, "{separator}{name} {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl Load {
    /// Makes the calls, and calls `report` each second with how those of that second ended.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn run(&self, mut report: impl FnMut(Outcomes)) -> io::Result<()> {
        let (sender, outcomes) = mpsc::channel();
        for connection in 0..self.connections {
            let (load, sender) = (self.clone(), sender.clone());
            thread::Builder::new().spawn(move || load.call(connection, &sender))?;
        }
        drop(sender);
        let mut next = Instant::now() + REPORT;
        let mut second = Outcomes::default();
        loop {
            match outcomes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(outcome) => second.count(outcome),
                Err(RecvTimeoutError::Timeout) => {
                    report(std::mem::take(&mut second));
                    next += REPORT;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    report(second);
                    return Ok(());
                }
            }
        }
    }

    /// Makes the calls of one connection: every so-manieth of all.
    fn call(&self, connection: u32, outcomes: &Sender<Result<String, String>>) {
        let pause = Duration::from_secs(1) * self.connections / self.rate;
        let attachments: Vec<_> =
            self.attachments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let numbers =
            (u64::from(connection)..self.calls.unwrap_or(u64::MAX)).step_by(self.connections as usize);
        let mut client = None;
        let mut next = Instant::now() + pause * connection / self.connections;
        for (number, method) in numbers.zip(self.methods.iter().cycle().skip(connection as usize)) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // After a call that took long the others are not made up for.
            next = (next + pause).max(Instant::now());
            let argument = format!("caller {number}");
            let call = Call::new(method, &argument).with(&attachments);
            let outcome = self.connected(&mut client).and_then(|client| client.call(call));
            let outcome = outcome.map_or_else(
                |error| {
                    client = None;
                    Err(error.to_string())
                },
                |reply| said(&reply),
            );
            if outcomes.send(outcome).is_err() {
                return;
            }
        }
    }

    /// The client, connected if it is not.
    fn connected<'a>(&self, client: &'a mut Option<Client>) -> io::Result<&'a mut Client> {
        let connected = match client.take() {
            Some(connected) => connected,
            None => {
                let mut last = io::ErrorKind::NotFound.into();
                let addresses = self.address.to_socket_addrs()?;
                let connect = |address| Client::connect(address).map_err(|error| last = error).ok();
                let connected = { addresses }.find_map(connect);
                connected.ok_or(last)?
            }
        };
        Ok(client.insert(connected))
    }
}

/// Who answered, or with which error.
fn said(reply: &Reply) -> Result<String, String> {
    match &reply.answer {
        Answer::Error { status, .. } => {
            let name = Dubbo.status_name((*status).into());
            Err(name.map_or_else(|| format!("status {status}"), str::to_owned))
        }
        Answer::Exception { class, .. } => Err(class.to_string()),
        _ => Ok(reply.server().unwrap_or("an unnamed server").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Server;
    use super::*;

    fn load(address: String) -> Load {
        let methods = vec!["sayHello".to_owned(), "sayBye".to_owned()];
        Load { address, rate: 1000, connections: 3, calls: Some(20), methods, attachments: Vec::new() }
    }

    fn run(load: &Load) -> Outcomes {
        let mut total = Outcomes::default();
        load.run(|outcomes| total.add(&outcomes)).unwrap();
        total
    }

    #[test]
    fn every_call_is_made_once() {
        let server = Server::start("v1", 0).unwrap();
        let outcomes = run(&load(server.address().to_string()));
        assert_eq!(outcomes.to_string(), "20 calls: v1 20");
        assert_eq!((outcomes.failed(), server.answered()), (0, 20));
    }

    #[test]
    fn failures_are_named() {
        let mut server = Server::start("v1", 0).unwrap();
        server.kill();
        let outcomes = run(&load(server.address().to_string()));
        assert_eq!((outcomes.calls(), outcomes.failed()), (20, 20));
        assert!(outcomes.to_string().contains("refused"), "{outcomes}");
    }
}
