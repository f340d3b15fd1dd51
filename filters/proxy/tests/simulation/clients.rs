//! tcp_proxy: each client connection is a CONNECT stream to the worker.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use meltemi_sockets::Side;

use crate::http2::{Connection, Habits, Role};
use crate::wire::{Message, Request, Response, Wire, array};
use crate::world::{Answer, Ask, Call, World};

/// The end of tcp_proxy with all its clients.
pub struct TcpProxy {
    pub http2: Connection,
    pub clients: Vec<Client>,
    /// GOAWAY came: new tunnels are opened on another HTTP/2 connection.
    pub is_refused: bool,
    /// The last tunnel that is served.
    pub last_served: u32,
    by_stream: BTreeMap<u32, usize>,
}

/// A client connection.
pub struct Client {
    pub stream: u32,
    /// Bytes for before the tunnel is open.
    early: Vec<u8>,
    ends_early: bool,
    is_open: bool,
    /// Calls without an answer, by request id; those of one id in their order.
    pub waiting: BTreeMap<u64, VecDeque<usize>>,
    pub next_id: u64,
    inbox: Vec<u8>,
    /// What it speaks.
    pub wire: Rc<dyn Wire>,
    /// Its server may want signs of life.
    pub hears_server: bool,
    /// Bytes that came and are no frames of the protocol: the client of a relay.
    pub raw: Option<Vec<u8>>,
    /// How much of what strangers say it has said.
    pub said: usize,
    pub received: usize,
    pub heartbeats_answered: usize,
    pub read_only: usize,
    /// It has sent a request in part: nothing but the rest of it may follow.
    pub has_stopped: bool,
    /// When the client left, in either of its ways.
    pub left_at: Option<u64>,
    /// When it sent bytes that are no frame: the worker closes the connection when it reads them.
    pub broke_at: Option<u64>,
    /// When the worker closed or reset the connection.
    pub closed_at: Option<u64>,
    pub reset: Option<u32>,
}

impl TcpProxy {
    pub fn new(habits: Habits) -> Self {
        Self {
            http2: Connection::new(Role::Client, habits),
            clients: Vec::new(),
            is_refused: false,
            last_served: u32::MAX,
            by_stream: BTreeMap::new(),
        }
    }
}

impl Client {
    /// Whether it makes calls, and the proxy knows which.
    pub fn is_caller(&self) -> bool {
        self.raw.is_none() && !self.hears_server
    }
}

/// What request and answer of a call carry: its number, and bytes that no other call has.
fn payload(call: usize, size: usize) -> Vec<u8> {
    let mut bytes = (call as u64).to_be_bytes().to_vec();
    let mut word = call as u32 ^ 0x9e37_79b9;
    bytes.extend((8..size).map(|_| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    }));
    bytes
}

/// The number of the call whose payload this is.
///
/// # Panics
///
/// It is that of no call: bytes were changed on the way.
pub fn call_of(calls: &[Call], bytes: &[u8]) -> usize {
    let call = u64::from_be_bytes(array(&mut &*bytes)) as usize;
    assert!(bytes == payload(call, calls[call].ask.size), "the payload of call {call} was changed");
    call
}

impl World {
    /// Opens a client connection of the service `demo`, whose default cluster has the same name.
    pub fn connect(&mut self) -> usize {
        self.connect_to("demo", "demo")
    }

    /// Opens a client connection.
    pub fn connect_to(&mut self, authority: &str, cluster: &str) -> usize {
        self.connect_with(authority, cluster, &[])
    }

    /// Opens a client connection whose tunnel has further headers.
    pub fn connect_with(&mut self, authority: &str, cluster: &str, headers: &[(&str, &str)]) -> usize {
        let key = self.proxy.clients.len();
        self.tell(|| format!("client {key} connects"));
        let peer = format!("192.0.2.1:{}", 40_000 + key);
        let fields = [
            (":method", "CONNECT"),
            (":authority", authority),
            ("x-meltemi-cluster", cluster),
            ("x-meltemi-peer", &peer),
        ];
        let fields = [&fields, headers].concat();
        let stream = if self.proxy.is_refused { 0 } else { self.proxy.http2.open(&fields) };
        self.proxy.by_stream.insert(stream, key);
        self.proxy.clients.push(Client {
            stream,
            early: Vec::new(),
            ends_early: false,
            is_open: false,
            waiting: BTreeMap::new(),
            next_id: 1 + 1000 * (key as u64 % 200),
            inbox: Vec::new(),
            wire: self.wire.clone(),
            hears_server: false,
            raw: None,
            said: 0,
            received: 0,
            heartbeats_answered: 0,
            read_only: 0,
            has_stopped: false,
            left_at: self.proxy.is_refused.then_some(self.now),
            broke_at: None,
            closed_at: None,
            reset: None,
        });
        self.flush(Side::Downstream);
        key
    }

    /// Makes a call; its number.
    pub fn call(&mut self, client: usize, ask: Ask) -> usize {
        let (call, bytes) = self.prepare(client, ask);
        self.write(client, &bytes);
        call
    }

    /// Makes calls that leave in one write; their numbers.
    pub fn call_all(&mut self, client: usize, asks: impl IntoIterator<Item = Ask>) -> Vec<usize> {
        let (calls, bytes): (Vec<_>, Vec<_>) = asks.into_iter().map(|ask| self.prepare(client, ask)).unzip();
        self.write(client, &bytes.concat());
        calls
    }

    /// A call that is not sent: its number, and its bytes.
    pub fn prepare(&mut self, client_key: usize, ask: Ask) -> (usize, Vec<u8>) {
        let call = self.calls.len();
        let client = &mut self.proxy.clients[client_key];
        let most = client.wire.codec().max_id();
        let id = if most == 0 { 0 } else { client.next_id.min(most) };
        client.next_id = if client.next_id >= most { 1 } else { client.next_id + 1 };
        if !ask.is_one_way {
            client.waiting.entry(id).or_default().push_back(call);
        }
        let ask = Ask { size: ask.size.max(8), ..ask };
        let request = Request {
            id,
            is_two_way: !ask.is_one_way,
            method: ask.method.clone(),
            attachments: ask.attachments.clone(),
            payload: payload(call, ask.size),
        };
        let sent_at = self.now;
        self.tell(|| format!("client {client_key} calls {call}: id {id}, {ask:?}"));
        self.calls.push(Call { client: client_key, ask, sent_at, deliveries: Vec::new(), answer: None });
        (call, self.proxy.clients[client_key].wire.bytes(&Message::Request(request)))
    }

    /// Whether a client connection is there and can be written to.
    pub fn can_call(&self, client: usize) -> bool {
        let client = self.proxy.clients.get(client);
        client.is_some_and(|client| {
            client.left_at.is_none()
                && !client.has_stopped
                && client.broke_at.is_none()
                && client.closed_at.is_none()
                && !client.ends_early
                && self.proxy.http2.is_writable(client.stream)
        })
    }

    /// Sends a sign of life.
    pub fn heartbeat(&mut self, client: usize) {
        let bytes = self.proxy.clients[client].wire.bytes(&Message::Heartbeat { id: 77 });
        self.write(client, &bytes);
    }

    /// Writes bytes to a client connection.
    pub fn write(&mut self, client: usize, bytes: &[u8]) {
        let client = &mut self.proxy.clients[client];
        match client.is_open {
            true => self.proxy.http2.write(client.stream, bytes),
            false => client.early.extend_from_slice(bytes),
        }
        self.flush(Side::Downstream);
    }

    /// Sends bytes that are no frame of the protocol.
    pub fn break_off(&mut self, client: usize) {
        self.tell(|| format!("client {client} sends garbage"));
        self.proxy.clients[client].broke_at = Some(self.now);
        // No magic number of Dubbo's, and no kind of the small protocol's.
        self.write(client, &[0, 0, 0, 11, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// The client sends no more, and still reads.
    pub fn half_close(&mut self, client: usize) {
        self.tell(|| format!("client {client} ends"));
        let client = &mut self.proxy.clients[client];
        match client.is_open {
            true => self.proxy.http2.end(client.stream),
            false => client.ends_early = true,
        }
        self.flush(Side::Downstream);
    }

    /// The client is gone.
    pub fn leave(&mut self, client_key: usize) {
        self.tell(|| format!("client {client_key} leaves"));
        let client = &mut self.proxy.clients[client_key];
        client.left_at = Some(self.now);
        self.proxy.http2.reset(client.stream, 8);
        self.flush(Side::Downstream);
    }

    /// The client reads from now on, or does not.
    pub fn set_client_reading(&mut self, client: usize, is_reading: bool) {
        self.tell(|| format!("client {client} reads: {is_reading}"));
        self.proxy.http2.set_reading(self.proxy.clients[client].stream, is_reading);
        self.flush(Side::Downstream);
    }

    /// Later tunnels are not served: tcp_proxy opens them on another HTTP/2 connection.
    pub fn tunnels_refused(&mut self, last: u32) {
        self.tell(|| format!("tcp_proxy is told to go after stream {last}"));
        self.proxy.last_served = self.proxy.last_served.min(last);
        self.proxy.is_refused = true;
        let now = self.now;
        for client in self.proxy.clients.iter_mut().filter(|client| client.stream > last) {
            client.left_at.get_or_insert(now);
        }
    }

    pub fn tunnel_head(&mut self, stream: u32, fields: &[(String, String)]) {
        let client = &mut self.proxy.clients[self.proxy.by_stream[&stream]];
        assert!(!client.is_open, "two heads on stream {stream}");
        assert_eq!(fields, [(":status".to_owned(), "200".to_owned())]);
        client.is_open = true;
        let early = std::mem::take(&mut client.early);
        self.proxy.http2.write(stream, &early);
        if client.ends_early {
            self.proxy.http2.end(stream);
        }
    }

    pub fn tunnel_data(&mut self, stream: u32, bytes: &[u8]) {
        let key = self.proxy.by_stream[&stream];
        let client = &mut self.proxy.clients[key];
        assert!(client.is_open, "DATA before the head on stream {stream}");
        client.received += bytes.len();
        if let Some(raw) = &mut client.raw {
            raw.extend_from_slice(bytes);
            return;
        }
        client.inbox.extend_from_slice(bytes);
        let wire = client.wire.clone();
        let mut used = 0;
        while let Some((len, message)) = wire.take(&self.proxy.clients[key].inbox[used..]) {
            used += len;
            match message {
                Message::Response(response) => self.answered(key, response),
                Message::HeartbeatAnswer { .. } => self.proxy.clients[key].heartbeats_answered += 1,
                Message::ReadOnly => self.proxy.clients[key].read_only += 1,
                // Of the server that it is connected to as long as nobody knows what it speaks.
                Message::Heartbeat { id } if self.proxy.clients[key].hears_server => {
                    // None in the middle of a request.
                    if self.can_call(key) {
                        self.write(key, &wire.bytes(&Message::HeartbeatAnswer { id }));
                    }
                }
                other => panic!("a client was sent {other:?}"),
            }
        }
        self.proxy.clients[key].inbox.drain(..used);
    }

    fn answered(&mut self, client_key: usize, response: Response) {
        let client = &mut self.proxy.clients[client_key];
        let call = client.waiting.get_mut(&response.id).and_then(VecDeque::pop_front);
        let call = call.unwrap_or_else(|| panic!("client {client_key} waits for no {response:?}"));
        let result = match response.error {
            Some(status) => Err((status, String::from_utf8(response.payload).expect("UTF-8"))),
            None => {
                let mut rest = response.payload.as_slice();
                let [len] = array(&mut rest);
                let (endpoint, mut rest) = rest.split_at(usize::from(len));
                let len = u32::from_be_bytes(array(&mut rest)) as usize;
                assert_eq!(call_of(&self.calls, &rest[..len]), call, "an answer to another call");
                let endpoint = String::from_utf8(endpoint.to_vec()).expect("UTF-8");
                let is_served =
                    self.calls[call].deliveries.iter().any(|delivery| delivery.endpoint == endpoint);
                assert!(is_served, "an answer of {endpoint} to a call that it never saw");
                Ok(endpoint)
            }
        };
        self.tell(|| format!("client {client_key} has an answer to {call}: {result:?}"));
        let answer = Answer { at: self.now, result, attachments: response.attachments };
        let earlier = self.calls[call].answer.replace(answer);
        assert!(earlier.is_none(), "a second answer to call {call}");
    }

    pub fn tunnel_ended(&mut self, stream: u32) {
        let key = self.proxy.by_stream[&stream];
        self.tell(|| format!("client {key} is closed"));
        let client = &mut self.proxy.clients[key];
        // What passes through ends as its server has it.
        let is_whole = client.inbox.is_empty() || client.hears_server;
        assert!(is_whole, "the connection ends within a frame");
        client.closed_at.get_or_insert(self.now);
        // The client closes its end in turn.
        self.proxy.http2.end_now(stream);
    }

    pub fn tunnel_reset(&mut self, stream: u32, code: u32) {
        let client = &mut self.proxy.clients[self.proxy.by_stream[&stream]];
        client.closed_at.get_or_insert(self.now);
        client.reset = Some(code);
    }
}
