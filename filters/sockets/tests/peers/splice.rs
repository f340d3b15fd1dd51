//! A filter that joins each client connection with an upstream connection of its own, byte for byte.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use meltemi_sockets::{Event, SocketId, Sockets, Target};

use crate::world::App;

#[derive(Default)]
pub struct Splice {
    other: HashMap<SocketId, SocketId>,
    /// Bytes that were delivered by a socket and wait in the other's queue.
    owed: HashMap<SocketId, usize>,
    /// Every event as text, DATA joined.
    pub log: Vec<String>,
    /// Client connections and their upstream connections in turn.
    pub ids: Vec<SocketId>,
    data: Vec<u8>,
    data_of: Option<SocketId>,
    pub most_queued: usize,
    high: usize,
    /// The endpoint to ask for.
    pub endpoint: Option<String>,
    /// Further fields of each CONNECT.
    pub headers: Vec<(String, String)>,
}

impl Splice {
    pub fn app(high: usize) -> (Rc<RefCell<Self>>, App) {
        let splice = Rc::new(RefCell::new(Self { high, ..Self::default() }));
        let app = Rc::clone(&splice);
        (splice, Box::new(move |sockets, event| app.borrow_mut().event(sockets, event)))
    }

    pub fn flush_log(&mut self) {
        if let Some(id) = self.data_of.take() {
            let text = if self.data.len() <= 64 { format!("{:?}", self.data) } else { sum(&self.data) };
            self.log.push(format!("{} data {text}", id.index()));
            self.data.clear();
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        if let Event::Data { id, bytes } = event {
            if self.data_of != Some(*id) {
                self.flush_log();
                self.data_of = Some(*id);
            }
            self.data.extend_from_slice(bytes);
        } else {
            self.flush_log();
            self.log.push(format!("{event:?}"));
        }
    }

    pub fn event(&mut self, sockets: &mut Sockets, event: Event<'_>) {
        self.note(&event);
        match event {
            Event::Accepted { id, accept } => {
                let headers: Vec<_> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let cluster = accept.cluster.unwrap_or_default();
                let target =
                    Target { cluster: &cluster, endpoint: self.endpoint.as_deref(), headers: &headers };
                match sockets.connect(&target) {
                    Some(upstream) => {
                        self.other.insert(id, upstream);
                        self.other.insert(upstream, id);
                        self.ids.extend([id, upstream]);
                    }
                    None => sockets.reject(id, 503),
                }
            }
            Event::Connected { id, .. } => sockets.accept(self.other[&id]),
            Event::Refused { id, status, .. } => sockets.reject(self.other[&id], status.max(500)),
            Event::Data { id, bytes } => {
                let to = self.other[&id];
                if let Some(buffer) = sockets.write(to) {
                    buffer.extend_from_slice(bytes);
                }
                let queued = sockets.queued(to);
                self.most_queued = self.most_queued.max(queued);
                if queued >= self.high {
                    *self.owed.entry(to).or_default() += bytes.len();
                } else {
                    sockets.consumed(id, bytes.len());
                }
            }
            Event::Writable { id } => {
                if let Some(owed) = self.owed.remove(&id) {
                    sockets.consumed(self.other[&id], owed);
                }
            }
            Event::Ended { id } => sockets.finish(self.other[&id]),
            // A clean end, when it comes after `Ended`: what came before is still to be passed on.
            Event::Reset { id, code: 0 } => sockets.close(self.other[&id]),
            Event::Reset { id, .. } => sockets.reset(self.other[&id]),
            Event::Alarm | Event::Response { .. } | Event::GoingAway { .. } => {}
        }
    }
}

fn sum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{} bytes {hash:x}", bytes.len())
}
