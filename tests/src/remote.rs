//! Peers in processes of their own, under remote control: one JSON command a line on their standard input, and one JSON
//! answer a line on their standard output, as `{"id": ..., "value": ...}` or `{"id": ..., "error": {...}}`, in any order.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use meltemi::checkout;
use serde_json::{Value, json};

use crate::signal;
use crate::wait::DEADLINE;

/// A peer. Killed when dropped.
pub struct Remote {
    name: String,
    child: Child,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    last_id: AtomicU64,
}

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// An answer of a peer that is still to come.
pub struct Pending {
    what: String,
    answer: Receiver<Value>,
}

/// An exception that a peer reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The class's full name.
    pub class: String,
    /// Its message.
    pub message: String,
    /// The protocol's code, such as 2 for the time-out of a Dubbo `RpcException`.
    pub code: Option<i64>,
    /// What caused it.
    pub cause: Option<Box<Exception>>,
}

impl Remote {
    /// Starts `command` as the peer `name`.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let log = checkout::target().join("e2e").join(format!("{name}-{}.log", process::id()));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let input = Mutex::new(child.stdin.take().unwrap());
        let output = child.stdout.take().unwrap();
        let waiting = Waiting::default();
        thread::spawn({
            let waiting = Arc::clone(&waiting);
            move || read_answers(output, &waiting)
        });
        Self { name: name.to_owned(), child, input, waiting, last_id: AtomicU64::new(0) }
    }

    /// Has the peer carry out a command that cannot fail.
    ///
    /// # Panics
    ///
    /// When it does.
    pub fn ask(&self, command: Value) -> Value {
        let text = command.to_string();
        self.send(command).wait().unwrap_or_else(|error| panic!("{} to {text}: {error:?}", self.name))
    }

    /// Sends a command.
    pub fn send(&self, mut command: Value) -> Pending {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        command["id"] = json!(id);
        let (sender, answer) = mpsc::channel();
        self.waiting.lock().unwrap().insert(id, sender);
        writeln!(self.input.lock().unwrap(), "{command}").unwrap();
        Pending { what: format!("{}: {command}", self.name), answer }
    }

    /// Sends the peer's process a signal, such as `STOP`.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// The exception that came of it.
    pub fn wait(self) -> Result<Value, Exception> {
        let answer = self.answer.recv_timeout(DEADLINE * 2);
        let mut answer = answer.unwrap_or_else(|error| panic!("no answer to {}: {error}", self.what));
        match Exception::read(&answer["error"]) {
            Some(error) => Err(error),
            None => Ok(answer["value"].take()),
        }
    }
}

impl Exception {
    fn read(error: &Value) -> Option<Self> {
        Some(Self {
            class: error["class"].as_str()?.to_owned(),
            message: error["message"].as_str()?.to_owned(),
            code: error["code"].as_i64(),
            cause: Self::read(&error["cause"]).map(Box::new),
        })
    }

    /// Whether this or one of its causes is of the class that ends with `class`.
    pub fn is(&self, class: &str) -> bool {
        self.class.ends_with(class) || self.cause.as_ref().is_some_and(|cause| cause.is(class))
    }
}

fn read_answers(output: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let waiter = answer["id"].as_u64().and_then(|id| waiting.lock().unwrap().remove(&id));
        if let Some(waiter) = waiter {
            let _ = waiter.send(answer);
        }
    }
    // Whoever still waits hears that the process is gone.
    waiting.lock().unwrap().clear();
}
