//! Steady traffic of raw clients, under which something else is done.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::client::Client;
use crate::dubbo::Frame;
use crate::wait::eventually;

/// Clients that call `sayHello` without a pause.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    /// Starts `clients` clients with `in_flight` calls each.
    pub fn start(address: SocketAddr, clients: usize, in_flight: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients = (0..clients)
            .map(|number| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || run(address, number, in_flight, &stop, &answered))
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Waits until `count` more calls have been answered.
    pub fn wait_for_answers(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        eventually(&format!("{count} more answers"), || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Lets the clients receive their last answers, and gives the number of calls that were answered.
    ///
    /// # Panics
    ///
    /// When a call was not answered, or not by a server with that call's own answer.
    pub fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let faults: Vec<_> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(
            faults.is_empty(),
            "{} calls failed, such as {:?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
        self.answered.load(Ordering::Relaxed)
    }
}

/// One client: what went wrong.
fn run(
    address: SocketAddr,
    number: usize,
    in_flight: usize,
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<String> {
    let mut client = Client::connect(address);
    let mut waiting: HashMap<u64, String> = HashMap::new();
    let mut faults = Vec::new();
    let mut last_id = 0;
    loop {
        while waiting.len() < in_flight && !stop.load(Ordering::Relaxed) {
            last_id += 1;
            let text = format!("{number}-{last_id}");
            if let Err(error) = client.try_send(&Frame::request(last_id, "sayHello", &*text).bytes()) {
                faults.push(format!("call {text} not sent: {error}"));
                return faults;
            }
            waiting.insert(last_id, text);
        }
        if waiting.is_empty() {
            return faults;
        }
        let answer = match client.try_receive() {
            Ok(Some(answer)) => answer,
            end => {
                faults.push(format!("{} calls of client {number} without an answer: {end:?}", waiting.len()));
                return faults;
            }
        };
        match waiting.remove(&answer.id) {
            Some(text) if answer.text().is_some_and(|value| value.ends_with(&format!(":{text}"))) => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Some(text) => faults.push(format!("call {text}: {:?} {answer:?}", answer.message())),
            None => faults.push(format!("an answer to no call: {answer:?}")),
        }
    }
}
