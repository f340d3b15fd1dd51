//! What servers get, and what they do with it.

use std::time::Duration;

use crate::toy;
use crate::wire::{Message, Response};
use crate::world::World;

/// A request that a server got.
pub struct Arrival<'a> {
    pub endpoint: &'a str,
    pub method: &'a str,
    /// How often the call has arrived anywhere, this time included.
    pub times: usize,
    /// When, in nanoseconds.
    pub at: u64,
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub after: Duration,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// The payload comes back, and so many bytes more.
    Echo(usize),
    /// The same with attachments.
    Attach(Vec<(String, String)>),
    /// The payload comes back in an answer that says that it is the last on the connection, which the server closes so long
    /// after it, if at all. Toys alone can say so.
    Last(Option<Duration>),
    /// The framework fails with this status.
    Error(u32),
    Nothing,
    /// As many parts in ten of an answer come at once, the rest much later.
    Halting(usize),
    /// As many parts in ten of an answer come, then the server closes the connection.
    Torn(usize),
    /// The server closes the connection.
    Close,
    /// The server resets the connection.
    Reset,
    /// These bytes come instead of an answer.
    Raw(Vec<u8>),
}

impl Reply {
    pub fn echo() -> Self {
        What::Echo(0).after(Duration::from_millis(1))
    }
}

impl What {
    pub fn after(self, after: Duration) -> Reply {
        Reply { after, what: self }
    }

    /// At once, or as good as.
    pub fn now(self) -> Reply {
        self.after(Duration::from_micros(10))
    }
}

impl World {
    /// Does what a server does with a request of that id.
    pub(super) fn reply(&mut self, stream: u32, id: u64, payload: Vec<u8>, what: What) {
        let Some(upstream) = self.manager.connections.get_mut(&stream) else { return };
        if !matches!(what, What::Nothing) {
            upstream.in_flight = upstream.in_flight.saturating_sub(1);
        }
        let (endpoint, wire) = (upstream.endpoint.as_bytes(), upstream.wire.clone());
        let echo = |more: usize| {
            let mut echo = vec![endpoint.len() as u8];
            echo.extend_from_slice(endpoint);
            echo.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            echo.extend_from_slice(&payload);
            echo.resize(echo.len() + more, 0xee);
            echo
        };
        let (pause, part) = match what {
            What::Halting(part) => (Some(Duration::from_millis(20)), part),
            What::Torn(part) => (None, part),
            _ => (None, 10),
        };
        let is_torn = matches!(what, What::Torn(_));
        let last = if let What::Last(end) = what { Some(end) } else { None };
        let response = match what {
            What::Halting(_) | What::Torn(_) => Response { id, payload: echo(9000), ..Response::default() },
            What::Echo(more) => Response { id, payload: echo(more), ..Response::default() },
            What::Last(_) => Response { id, payload: echo(0), ..Response::default() },
            What::Attach(attachments) => {
                Response { id, payload: echo(0), attachments, ..Response::default() }
            }
            What::Error(status) => {
                Response { id, error: Some(status), payload: b"overloaded".to_vec(), ..Response::default() }
            }
            What::Nothing => return,
            What::Close => return self.close_upstream(stream, true),
            What::Reset => return self.close_upstream(stream, false),
            What::Raw(bytes) => return self.write_upstream(stream, &bytes),
        };
        let mut bytes = wire.bytes(&Message::Response(response));
        if let Some(end) = last {
            bytes[toy::KIND_AT] = toy::LAST;
            if let Some(pause) = end {
                self.after(pause, move |world| world.close_upstream(stream, true));
            }
        }
        let is_halted =
            self.manager.connections.get(&stream).is_some_and(|upstream| upstream.halted.is_some());
        if is_halted {
            return self.write_upstream(stream, &bytes);
        }
        let (part, rest) = bytes.split_at(bytes.len() * part / 10);
        self.write_upstream(stream, part);
        if is_torn {
            if let Some(upstream) = self.manager.connections.get_mut(&stream) {
                upstream.halted = Some(Vec::new());
            }
            self.after(Duration::from_millis(5), move |world| world.close_upstream(stream, true));
        } else if let Some(pause) = pause {
            self.halting(stream, rest.to_vec(), pause);
        }
    }

    /// A server writes nothing else before the rest of an answer.
    fn halting(&mut self, stream: u32, rest: Vec<u8>, pause: Duration) {
        let Some(upstream) = self.manager.connections.get_mut(&stream) else { return };
        upstream.halted = Some(Vec::new());
        self.after(pause, move |world| {
            let Some(upstream) = world.manager.connections.get_mut(&stream) else { return };
            let behind = upstream.halted.take().unwrap_or_default();
            world.write_upstream(stream, &[rest, behind].concat());
        });
    }
}
