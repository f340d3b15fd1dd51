//! A raw Dubbo server in the test's own process that answers, or misbehaves, as the test asks.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::dubbo::{Argument, Frame};
use crate::wait::DEADLINE;

/// How many connections may wait until they are accepted. One more connects a second later, when its SYN is sent again, and
/// that is as long as Envoy waits in the shipped configuration; Rust's own 128 fill up on a busy machine.
const QUEUE: i32 = 4096;

/// What a backend does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answers: a text with the backend's name, a colon and the text, bytes with the same bytes.
    Answer,
    /// Keeps the request until [`Backend::release`] or [`Backend::release_reversed`].
    Hold,
    /// Answers so much later, without holding up other requests.
    Delay(Duration),
    /// Never answers.
    Ignore,
    /// Closes the connection without an answer.
    Close,
    /// Resets the connection without an answer.
    Reset,
    /// Ends its own direction of the connection without an answer, and reads on.
    EndWriting,
    /// Answers with these attachments as well.
    Attach(&'static [(&'static str, &'static str)]),
    /// Answers with this status and message.
    Status(u8, String),
    /// Writes these bytes in place of an answer.
    Raw(Vec<u8>),
}

/// A raw Dubbo server on a loopback port.
pub struct Backend {
    name: String,
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// A connection, on which each write is whole.
struct Connection {
    stream: TcpStream,
    writing: Mutex<()>,
    is_reset: AtomicBool,
}

struct Shared {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    actions: HashMap<String, Action>,
    connections: BTreeMap<u64, Arc<Connection>>,
    accepted: u64,
    received: Vec<Frame>,
    /// How many calls of each method were among them: to look through them all takes long where they are many.
    calls: HashMap<String, usize>,
    held: Vec<(Arc<Connection>, Frame)>,
    paused: bool,
    stopping: bool,
}

impl Backend {
    /// Starts a backend on a free port.
    pub fn start(name: &str) -> Self {
        Self::start_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts a backend on `address`. One that is to come back has one of [`free_address`](crate::java::free_address) from the
    /// start, since others may be given any other port while nobody has it.
    pub fn start_at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        SockRef::from(&listener).listen(QUEUE).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let acceptor = thread::spawn({
            let (shared, listener) = (Arc::clone(&shared), listener.try_clone().unwrap());
            move || shared.accept(&listener)
        });
        Self { name: name.to_owned(), address, listener, shared, acceptor: Some(acceptor) }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name in its answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on does `action` for calls of `method`. Without this, [`Action::Answer`].
    pub fn on(&self, method: &str, action: Action) {
        self.state().actions.insert(method.to_owned(), action);
    }

    /// How many calls of `method` arrived so far.
    pub fn calls(&self, method: &str) -> usize {
        calls(&self.state(), method)
    }

    /// Every frame that arrived so far.
    pub fn received(&self) -> Vec<Frame> {
        self.state().received.clone()
    }

    /// Waits until `count` calls of `method` have arrived.
    pub fn wait_for_calls(&self, method: &str, count: usize) {
        drop(self.wait(&format!("{count} calls of {method}"), |state| calls(state, method) >= count));
    }

    /// Waits until it holds `count` requests.
    pub fn wait_for_held(&self, count: usize) {
        drop(self.wait(&format!("{count} held requests"), |state| state.held.len() >= count));
    }

    /// Waits until a frame for which `wanted` holds has arrived, and gives it.
    pub fn wait_for_frame(&self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let state = self.wait(what, |state| state.received.iter().any(&wanted));
        state.received.iter().find(|frame| wanted(frame)).cloned().unwrap()
    }

    /// Waits until `count` connections are open.
    pub fn wait_for_connections(&self, count: usize) {
        drop(self.wait(&format!("{count} connections"), |state| state.connections.len() == count));
    }

    /// Waits until just one connection is open, and says which: a proxy keeps one, and closes those that it opens in
    /// search of more servers.
    pub fn wait_for_kept(&self) -> u64 {
        let state = self.wait("one connection is kept", |state| state.connections.len() == 1);
        *state.connections.keys().next().unwrap()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.state().connections.len()
    }

    /// Whether the connection of that number is open.
    pub fn is_open(&self, number: u64) -> bool {
        self.state().connections.contains_key(&number)
    }

    /// How many connections were ever opened.
    pub fn accepted(&self) -> u64 {
        self.state().accepted
    }

    /// Answers the held requests in the order of their arrival.
    pub fn release(&self) {
        let held = std::mem::take(&mut self.state().held);
        self.answer_all(held);
    }

    /// Answers the held requests, the last one first.
    pub fn release_reversed(&self) {
        let mut held = std::mem::take(&mut self.state().held);
        held.reverse();
        self.answer_all(held);
    }

    /// Writes `bytes` on every open connection.
    pub fn send(&self, bytes: &[u8]) {
        let connections: Vec<_> = self.state().connections.values().cloned().collect();
        for connection in connections {
            connection.write(bytes);
        }
    }

    /// Closes every open connection in good order, and goes on listening.
    pub fn close_connections(&self) {
        for connection in self.state().connections.values() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }

    /// Resets every open connection, and goes on listening.
    pub fn reset_connections(&self) {
        for connection in self.state().connections.values() {
            connection.prepare_reset();
        }
    }

    /// Stops reading from its connections, whatever is sent, until [`Backend::resume`].
    pub fn pause(&self) {
        self.state().paused = true;
    }

    /// Reads on.
    pub fn resume(&self) {
        self.state().paused = false;
        self.shared.changed.notify_all();
    }

    /// Dies: resets its connections and stops listening, as a killed process does.
    pub fn kill(self) {
        drop(self);
    }

    fn answer_all(&self, held: Vec<(Arc<Connection>, Frame)>) {
        for (connection, frame) in held {
            connection.write(&answer(&self.name, &frame).bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    fn wait(&self, what: &str, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.state(), DEADLINE, |state| !condition(state))
            .unwrap();
        assert!(!timeout.timed_out(), "backend {} not within {DEADLINE:?}: {what}", self.name);
        state
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        {
            let mut state = self.state();
            state.stopping = true;
            state.held.clear();
        }
        self.shared.changed.notify_all();
        self.reset_connections();
        // Wakes the acceptor, from whatever network namespace this is.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let mut state = self.lock();
            if state.stopping {
                return;
            }
            stream.set_nodelay(true).unwrap();
            let id = state.accepted;
            state.accepted += 1;
            let connection =
                Arc::new(Connection { stream, writing: Mutex::new(()), is_reset: AtomicBool::new(false) });
            state.connections.insert(id, Arc::clone(&connection));
            drop(state);
            self.changed.notify_all();
            let shared = Arc::clone(self);
            thread::spawn(move || {
                shared.serve(&connection);
                let mut state = shared.lock();
                state.connections.remove(&id);
                state.held.retain(|(held, _)| !Arc::ptr_eq(held, &connection));
                // The last handle closes the socket, before anyone hears that the connection is gone.
                drop(connection);
                drop(state);
                shared.changed.notify_all();
            });
        }
    }

    fn serve(&self, connection: &Arc<Connection>) {
        let mut reader = BufReader::new(&connection.stream);
        while self.may_read()
            && let Ok(Some(frame)) = Frame::read(&mut reader)
        {
            // What comes after the end of reading can be read all the same.
            if connection.is_reset.load(Ordering::Acquire) {
                return;
            }
            let method = frame.call().map(|call| call.method);
            let mut state = self.lock();
            state.received.push(frame.clone());
            if let Some(method) = &method {
                *state.calls.entry(method.clone()).or_default() += 1;
            }
            let action =
                method.and_then(|method| state.actions.get(&method).cloned()).unwrap_or(Action::Answer);
            if action == Action::Hold {
                state.held.push((Arc::clone(connection), frame.clone()));
            }
            drop(state);
            self.changed.notify_all();
            if frame.is_two_way() && !self.act(action, connection, frame) {
                return;
            }
        }
    }

    /// Does `action` and says whether the connection goes on.
    fn act(&self, action: Action, connection: &Arc<Connection>, frame: Frame) -> bool {
        match action {
            Action::Answer => connection.write(&answer(&self.name, &frame).bytes()),
            Action::Attach(attachments) => {
                let value = value(&self.name, &frame);
                connection.write(&Frame::response_with(frame.id, &value, attachments).bytes())
            }
            Action::Status(status, message) => {
                connection.write(&Frame::error(frame.id, status, &message).bytes())
            }
            Action::Raw(bytes) => connection.write(&bytes),
            Action::Hold | Action::Ignore => true,
            Action::Delay(delay) => {
                let (name, connection) = (self.name.clone(), Arc::clone(connection));
                thread::spawn(move || {
                    thread::park_timeout(delay);
                    connection.write(&answer(&name, &frame).bytes());
                });
                true
            }
            Action::Close => false,
            Action::Reset => {
                connection.prepare_reset();
                false
            }
            Action::EndWriting => connection.stream.shutdown(Shutdown::Write).is_ok(),
        }
    }

    /// The state, also after a failed wait for it has ended a test.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_read(&self) -> bool {
        let paused = |state: &mut State| state.paused && !state.stopping;
        let state = self.changed.wait_while(self.lock(), paused).unwrap_or_else(PoisonError::into_inner);
        !state.stopping
    }
}

fn calls(state: &State, method: &str) -> usize {
    state.calls.get(method).copied().unwrap_or_default()
}

impl Connection {
    /// Writes `bytes` and says whether that went well.
    fn write(&self, bytes: &[u8]) -> bool {
        let _whole = self.writing.lock().unwrap();
        (&self.stream).write_all(bytes).is_ok()
    }

    /// The socket is reset, not closed, once its last handle is dropped; its reader is woken to drop it.
    fn prepare_reset(&self) {
        self.is_reset.store(true, Ordering::Release);
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}

fn answer(name: &str, frame: &Frame) -> Frame {
    if frame.is_event() {
        return Frame::heartbeat_answer(frame.id);
    }
    Frame::response(frame.id, &value(name, frame))
}

/// What a call is answered with.
fn value(name: &str, frame: &Frame) -> Argument {
    match frame.call().map(|call| call.argument) {
        Some(Argument::Text(text)) => Argument::Text(format!("{name}:{text}")),
        Some(bytes) => bytes,
        None => Argument::Text(format!("{name}:?")),
    }
}
