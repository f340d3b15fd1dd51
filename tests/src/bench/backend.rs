//! The servers: they answer every call at once with a string of the length that came, and the id and token of the call.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::thread;

use meltemi_codecs::Peer;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token as Key};

use super::Protocol;
use super::frame::{Reader, Seen, Template};
use super::outbox::Outbox;

/// Bytes per read.
const READ: usize = 256 << 10;

/// Starts servers of a protocol on these addresses, in one thread that lives as long as the process. Calls carry strings of
/// one of the `bodies`.
/// Returns the addresses that were bound.
///
/// # Errors
///
/// When an address cannot be bound.
pub fn start(protocol: Protocol, addresses: &[SocketAddr], bodies: &[usize]) -> io::Result<Vec<SocketAddr>> {
    let poll = Poll::new()?;
    let mut listeners = Vec::new();
    for (index, &address) in addresses.iter().enumerate() {
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, Key(index), Interest::READABLE)?;
        listeners.push(listener);
    }
    let bound = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    let mut servers = Servers::new(protocol, poll, listeners, bodies);
    thread::Builder::new().name("backend".into()).spawn(move || {
        if let Err(error) = servers.run() {
            eprintln!("the servers of the benchmark stopped: {error}");
        }
    })?;
    Ok(bound)
}

struct Servers {
    poll: Poll,
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    protocol: Protocol,
    replies: Replies,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    reader: Reader,
    outbox: Outbox,
}

/// The templates of all answers: one for each length, by rising length, then that to heartbeats, which only Dubbo has.
struct Replies {
    bodies: Vec<usize>,
    templates: Vec<Template>,
}

impl Replies {
    fn new(protocol: Protocol, bodies: &[usize]) -> Self {
        let mut bodies = bodies.to_vec();
        bodies.sort_unstable();
        bodies.dedup();
        let mut templates: Vec<_> = bodies.iter().map(|&body| Template::response(protocol, body)).collect();
        templates.push(Template::heartbeat_reply());
        Self { bodies, templates }
    }

    /// The template that answers a request. A request's other fields take less room than any longer body adds.
    fn to(&self, request: &Seen) -> Option<usize> {
        match (request.request && request.two_way, request.event) {
            (true, true) => Some(self.bodies.len()),
            (true, false) => self.bodies.iter().rposition(|&body| body <= request.body_len),
            (false, _) => None,
        }
    }
}

impl Servers {
    fn new(protocol: Protocol, poll: Poll, listeners: Vec<TcpListener>, bodies: &[usize]) -> Self {
        Self {
            poll,
            listeners,
            connections: Vec::new(),
            protocol,
            replies: Replies::new(protocol, bodies),
            buffer: vec![0; READ],
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let Key(key) = event.token();
                match key.checked_sub(self.listeners.len()) {
                    None => self.accept(key)?,
                    Some(index) => self.serve(index, event.is_read_closed()),
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        loop {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.connections.iter().position(Option::is_none).unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let key = Key(self.listeners.len() + index);
            self.poll.registry().register(&mut stream, key, Interest::READABLE | Interest::WRITABLE)?;
            let reader = Reader::new(self.protocol, Peer::Client);
            self.connections[index] = Some(Connection { stream, reader, outbox: Outbox::default() });
        }
    }

    fn serve(&mut self, index: usize, closing: bool) {
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        if !connection.serve(closing, &self.replies, &mut self.buffer).unwrap_or(false) {
            self.connections[index] = None;
        }
    }
}

impl Connection {
    /// Reads, answers, writes. False when the other side has closed.
    fn serve(&mut self, closing: bool, replies: &Replies, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let outbox = &mut self.outbox;
            self.reader
                .feed(&buffer[..n], |request| {
                    if let Some(template) = replies.to(&request) {
                        outbox.push(&replies.templates, template, request.id, &request.token);
                    }
                })
                .map_err(io::Error::other)?;
            // A short read has emptied the socket, and whatever comes later is announced anew; only a close may be announced
            // already.
            if n < buffer.len() && !closing {
                break;
            }
        }
        self.outbox.flush(&replies.templates, &mut self.stream)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::token;
    use super::*;

    #[test]
    fn the_length_of_a_call_chooses_the_answer() {
        let replies = Replies::new(Protocol::Dubbo, &[1 << 20, 64, 16 << 10]);
        for (index, body) in [64, 16 << 10, 1 << 20].into_iter().enumerate() {
            let request = Seen {
                request: true,
                event: false,
                two_way: true,
                ok: false,
                id: 1,
                token: token(1),
                body_len: Template::request(Protocol::Dubbo, body).body_len(),
            };
            assert_eq!(replies.to(&request), Some(index));
            assert_eq!(replies.to(&Seen { event: true, ..request }), Some(3));
            assert_eq!(replies.to(&Seen { two_way: false, ..request }), None);
        }
    }
}
