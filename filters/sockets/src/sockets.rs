use std::time::Duration;

use crate::{Error, Event, Options, Request, Side, SocketId, Target};

/// Both HTTP/2 connections of one filter instance, as sockets.
pub struct Sockets {
    options: Options,
}

impl Sockets {
    /// Sockets of a new filter instance, before either peer has sent anything.
    pub fn new(options: Options) -> Self {
        Self { options }
    }
    /// Parses what `side` sent.
    pub fn receive<'a>(&mut self, _side: Side, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        *input = &[];
        Ok(None)
    }
    /// Answers a tunnel with `:status 200`.
    pub fn accept(&mut self, _id: SocketId) {}
    /// Answers a tunnel with a status and the end.
    pub fn reject(&mut self, _id: SocketId, _status: u16) {}
    /// Opens a connection.
    pub fn connect(&mut self, _target: &Target<'_>) -> Option<SocketId> {
        None
    }
    /// Sends a unary request.
    pub fn request(&mut self, _request: &Request<'_>) -> Option<SocketId> {
        None
    }
    /// Sets an alarm.
    pub fn alarm(&mut self, _delay: Duration) -> bool {
        false
    }
    /// The send buffer to append to.
    pub fn write(&mut self, _id: SocketId) -> Option<&mut Vec<u8>> {
        None
    }
    /// Bytes not yet sent.
    pub fn queued(&self, _id: SocketId) -> usize {
        0
    }
    /// Half-close.
    pub fn finish(&mut self, _id: SocketId) {}
    /// Done in both directions.
    pub fn close(&mut self, _id: SocketId) {}
    /// Abort.
    pub fn reset(&mut self, _id: SocketId) {}
    /// Receive credit.
    pub fn consumed(&mut self, _id: SocketId, _n: usize) {}
    /// GOAWAY towards tcp_proxy.
    pub fn drain(&mut self) {}
    /// Appends what may be sent towards `side`.
    pub fn transmit(&mut self, _side: Side, _out: &mut Vec<u8>) {}
    /// Whether drained.
    pub fn is_draining(&self) -> bool {
        false
    }
    /// Whether there is no socket.
    pub fn is_idle(&self) -> bool {
        self.options.max_sockets == 0
    }
}
