//! Raw Thrift peers in the test's own process: a server that answers in order, or misbehaves, as the test asks, and a
//! client.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Codec, Peer, Step, Thrift};

use crate::wait::{DEADLINE, eventually};

pub mod peers;

/// The longest message that peers read.
const LIMIT: usize = 32 << 20;

/// Every way to write a message.
pub const FORMS: [(Transport, Protocol); 11] = [
    (Transport::Framed, Protocol::Binary),
    (Transport::Framed, Protocol::OldBinary),
    (Transport::Framed, Protocol::Compact),
    (Transport::Unframed, Protocol::Binary),
    (Transport::Unframed, Protocol::OldBinary),
    (Transport::Unframed, Protocol::Compact),
    (Transport::THeader, Protocol::Binary),
    (Transport::THeader, Protocol::Compact),
    (Transport::TtHeader { framed: false }, Protocol::Binary),
    (Transport::TtHeader { framed: true }, Protocol::Binary),
    (Transport::TtHeader { framed: false }, Protocol::Compact),
];

/// What a server does with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answers with its own name, a colon and the argument.
    Answer,
    /// Does not go on until [`Server::release`].
    Hold,
    /// Answers with the argument alone.
    Echo,
    /// Closes the connection without an answer.
    Close,
    /// Answers with this.
    Content(Content<'static>),
    /// Writes these bytes in place of an answer.
    Raw(Vec<u8>),
    /// Echoes, and once more.
    Twice,
    /// Keeps the echo back until it has answered the connection's next call.
    Swap,
    /// Echoes, and then says the same to the id that follows.
    Ahead,
    /// Echoes, says as a Kitex server does that it is the last answer on the connection, and drops what comes after it.
    Last,
}

/// A server on a loopback port that answers each connection's calls in their order.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    actions: HashMap<String, Action>,
    received: Vec<Message<'static>>,
    is_released: bool,
}

impl Server {
    /// Starts a server on a free port.
    pub fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (state, released) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { name: name.to_owned(), state, released });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.serve(stream));
                }
            }
        });
        Self { address, shared }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on does `action` for calls of `method`. Without this, [`Action::Answer`].
    pub fn on(&self, method: &str, action: Action) {
        self.shared.state.lock().unwrap().actions.insert(method.to_owned(), action);
    }

    /// The calls of `method` that arrived so far.
    pub fn received(&self, method: &str) -> Vec<Message<'static>> {
        let state = self.shared.state.lock().unwrap();
        state.received.iter().filter(|call| call.name == method).cloned().collect()
    }

    /// Waits until `count` calls of `method` have arrived.
    pub fn wait_for(&self, method: &str, count: usize) {
        eventually(&format!("{count} calls of {method}"), || {
            (self.received(method).len() >= count).then_some(())
        });
    }

    /// Lets calls go on that are held, and those that come.
    pub fn release(&self) {
        self.shared.state.lock().unwrap().is_released = true;
        self.shared.released.notify_all();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut connection = Connection { stream, input: Vec::new() };
        let mut kept = Vec::new();
        while let Ok(Some(bytes)) = connection.next(Peer::Client) {
            let Ok(call) = Message::read(&bytes) else { return };
            let call = owned(call);
            let mut state = self.state.lock().unwrap();
            state.received.push(call.clone());
            let action = state.actions.get(&*call.name).cloned().unwrap_or(Action::Answer);
            if action == Action::Hold {
                state = self.released.wait_while(state, |state| !state.is_released).unwrap();
            }
            drop(state);
            let (argument, is_one_way) = match &call.content {
                Content::Call(argument) => (argument.to_vec(), false),
                Content::OneWay(argument) => (argument.to_vec(), true),
                _ => return,
            };
            let content = match &action {
                Action::Answer | Action::Hold => {
                    Content::Value([self.name.as_bytes(), b":", &argument].concat().into())
                }
                Action::Echo | Action::Twice | Action::Swap | Action::Ahead | Action::Last => {
                    Content::Value(argument.into())
                }
                Action::Content(content) => content.clone(),
                Action::Close => return,
                Action::Raw(bytes) => {
                    let _ = connection.stream.write_all(bytes);
                    continue;
                }
            };
            if is_one_way {
                continue;
            }
            let mut answer = Message { content, headers: Vec::new(), ..call };
            let mut out = written(&answer);
            match action {
                Action::Twice => out.extend(written(&answer)),
                Action::Ahead => {
                    answer.id = answer.id.wrapping_add(1 << 16);
                    out.extend(written(&answer));
                }
                Action::Swap => {
                    kept.append(&mut out);
                    continue;
                }
                Action::Last => {
                    answer.headers.push(("crrst".to_owned(), "1".to_owned()));
                    let _ = connection.stream.write_all(&written(&answer));
                    let _ = connection.next(Peer::Client);
                    return;
                }
                _ => out.append(&mut kept),
            }
            let _ = connection.stream.write_all(&out);
        }
    }
}

/// A client with one connection.
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { connection: Connection { stream, input: Vec::new() } }
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message<'_>) {
        self.send_bytes(&written(message));
    }

    /// Sends bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.connection.stream.write_all(bytes).unwrap();
    }

    /// The next answer.
    pub fn receive(&mut self) -> Message<'static> {
        self.try_receive().expect("an answer")
    }

    /// The next answer, unless the connection is closed before.
    pub fn try_receive(&mut self) -> Option<Message<'static>> {
        let bytes = self.connection.next(Peer::Server).ok()??;
        Some(owned(Message::read(&bytes).unwrap()))
    }

    /// Sends a call and waits for its answer, which must be in the same form, with its name and id.
    pub fn ask(&mut self, call: &Message<'_>) -> Content<'static> {
        self.try_ask(call).expect("an answer")
    }

    /// The same, where the way to the servers may not be there yet.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn try_ask(&mut self, call: &Message<'_>) -> io::Result<Content<'static>> {
        self.connection.stream.write_all(&written(call))?;
        let answer = self.try_receive().ok_or(io::ErrorKind::UnexpectedEof)?;
        let form = |message: &Message<'_>| {
            (message.transport, message.protocol, message.id, message.name.to_string())
        };
        assert_eq!(form(&answer), form(call));
        Ok(answer.content)
    }
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Connection {
    /// The next frame that `from` sent; `None` at the end.
    fn next(&mut self, from: Peer) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let needed = if self.input.is_empty() {
                1
            } else {
                match Thrift.split(from, &self.input, LIMIT).map_err(io::Error::other)? {
                    Step::Frame(frame) => return Ok(Some(self.input.drain(..frame.len).collect())),
                    Step::NeedMore { at_least } => at_least,
                }
            };
            while self.input.len() < needed {
                let read = self.stream.read(&mut chunk)?;
                if read == 0 {
                    return Ok(None);
                }
                self.input.extend_from_slice(&chunk[..read]);
            }
        }
    }
}

/// A call of `method` with one text.
pub fn call<'a>(form: (Transport, Protocol), id: u32, method: &'a str, text: &'a str) -> Message<'a> {
    Message::new(form.0, form.1, id, method, Content::Call(text.as_bytes().into()))
}

/// The answer of the server `name`.
pub fn answer(name: &str, text: &str) -> Content<'static> {
    Content::Value(format!("{name}:{text}").into_bytes().into())
}

/// Whether a message of that transport has headers.
pub fn has_headers(transport: Transport) -> bool {
    !matches!(transport, Transport::Unframed | Transport::Framed)
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes).unwrap();
    bytes
}

fn owned(message: Message<'_>) -> Message<'static> {
    let content = match message.content {
        Content::Call(text) => Content::Call(text.into_owned().into()),
        Content::OneWay(text) => Content::OneWay(text.into_owned().into()),
        Content::Value(text) => Content::Value(text.into_owned().into()),
        Content::Exception(text) => Content::Exception(text.into_owned().into()),
        Content::Void => Content::Void,
        Content::Error { status, text } => Content::Error { status, text: text.into_owned().into() },
    };
    Message {
        transport: message.transport,
        protocol: message.protocol,
        is_compressed: message.is_compressed,
        id: message.id,
        name: message.name.into_owned().into(),
        headers: message.headers,
        content,
    }
}
