//! Frames made once and patched per request, and a reader that looks at no more of a frame than it must.

use meltemi_codecs::Peer;

use super::Protocol;

mod coded;
mod dubbo;

pub use dubbo::{INTERFACE, METHOD};

/// Frames up to this length are kept in one piece; of longer ones only the part that differs is copied per request.
const ONE_PIECE: usize = 1024;

/// An id written as text, in the string of a request and of its response. Proxies may renumber frames; this they leave.
pub type Token = [u8; 16];

/// The token of an id.
#[must_use]
pub fn token(id: u64) -> Token {
    std::array::from_fn(|i| b'a' + ((id >> (60 - 4 * i)) & 15) as u8)
}

/// A frame but for its id and its token.
#[derive(Debug, Clone)]
pub struct Template {
    protocol: Protocol,
    head: Vec<u8>,
    tail: Vec<u8>,
    token: Option<usize>,
    body_len: usize,
}

impl Template {
    /// A call with a string of `body` bytes, at least those of a [`Token`].
    #[must_use]
    pub fn request(protocol: Protocol, body: usize) -> Self {
        match protocol {
            Protocol::Dubbo => dubbo::request(body),
            _ => coded::template(protocol, Peer::Client, body),
        }
    }

    /// The successful answer to such a call: a string of `body` bytes.
    #[must_use]
    pub fn response(protocol: Protocol, body: usize) -> Self {
        match protocol {
            Protocol::Dubbo => dubbo::response(body),
            _ => coded::template(protocol, Peer::Server, body),
        }
    }

    /// The answer to a heartbeat of Dubbo's.
    #[must_use]
    pub fn heartbeat_reply() -> Self {
        dubbo::heartbeat_reply()
    }

    /// A frame whose token is at `token`, and of which what follows `end` is the same for all ids.
    fn new(protocol: Protocol, mut head: Vec<u8>, token: Option<usize>, end: usize, body_len: usize) -> Self {
        let tail = if head.len() > ONE_PIECE { head.split_off(end) } else { Vec::new() };
        Self { protocol, head, tail, token, body_len }
    }

    /// What [`Seen::body_len`] is of this frame.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// Appends the front of the frame, which holds its id and token.
    pub fn write_head(&self, id: u64, token: &Token, out: &mut Vec<u8>) {
        if self.protocol != Protocol::Dubbo {
            return coded::write(self.protocol, &self.head, id, token, out);
        }
        let start = out.len();
        out.extend_from_slice(&self.head);
        dubbo::set_id(&mut out[start..], id);
        if let Some(at) = self.token {
            out[start + at..start + at + token.len()].copy_from_slice(token);
        }
    }

    /// What follows the head, the same for every id. Often empty.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }
}

/// What a [`Reader`] saw of a complete frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is a request.
    pub request: bool,
    /// Whether it is an event, such as a heartbeat.
    pub event: bool,
    /// Whether it wants an answer.
    pub two_way: bool,
    /// Whether it is a response whose status is OK and that holds a value.
    pub ok: bool,
    /// The request id.
    pub id: u64,
    /// The token, all zero if the frame is too short to hold one.
    pub token: Token,
    /// Length of what the id does not change: of a Dubbo frame, all after its header.
    pub body_len: usize,
}

/// The stream does not hold frames of this protocol at this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of {0}")]
pub struct Unknown(&'static str);

/// Splits a stream into frames. Of each it keeps the front and passes over the rest.
#[derive(Debug)]
pub struct Reader {
    protocol: Protocol,
    from: Peer,
    /// The front of a frame whose front is not complete yet.
    front: Vec<u8>,
    /// A frame whose front is complete, and how many of its bytes are still to come.
    current: Option<(Seen, usize)>,
}

impl Reader {
    /// The reader of what `from` sends.
    #[must_use]
    pub fn new(protocol: Protocol, from: Peer) -> Self {
        Self { protocol, from, front: Vec::new(), current: None }
    }

    fn look(&self, bytes: &[u8]) -> Result<Option<(Seen, usize, usize)>, Unknown> {
        match self.protocol {
            Protocol::Dubbo => dubbo::look(bytes),
            protocol => coded::look(protocol, self.from, bytes),
        }
    }

    /// Takes the next bytes of the stream, and calls `each` for every frame that they complete.
    ///
    /// # Errors
    ///
    /// [`Unknown`] when a frame cannot be read; the stream is lost.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Seen)) -> Result<(), Unknown> {
        loop {
            if let Some((seen, missing)) = self.current.take() {
                if bytes.len() < missing {
                    self.current = Some((seen, missing - bytes.len()));
                    return Ok(());
                }
                bytes = &bytes[missing..];
                each(seen);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            if self.front.is_empty()
                && let Some((seen, len, taken)) = self.look(bytes)?
            {
                self.current = Some((seen, len - taken));
                bytes = &bytes[taken..];
                continue;
            }
            // The front straddles two reads: collect it byte by byte, which is rare and short.
            self.front.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((seen, len, taken)) = self.look(&self.front)? {
                self.front.clear();
                self.current = Some((seen, len - taken));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(template: &Template, id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        template.write_head(id, &token(id), &mut out);
        out.extend_from_slice(template.tail());
        out
    }

    #[test]
    fn frames_are_read_back_however_they_are_cut() {
        let templates = [
            Template::request(Protocol::Dubbo, 64),
            Template::response(Protocol::Dubbo, 64),
            Template::response(Protocol::Dubbo, 16 << 10),
        ];
        let mut stream = Vec::new();
        for (template, id) in templates.iter().zip([7, u64::MAX >> 1, 0x0102_0304_0506_0708]) {
            stream.extend_from_slice(&bytes(template, id));
        }
        for step in [1, 2, 3, 15, 16, 17, 100, stream.len()] {
            let mut reader = Reader::new(Protocol::Dubbo, Peer::Client);
            let mut seen = Vec::new();
            for chunk in stream.chunks(step) {
                reader.feed(chunk, |frame| seen.push(frame)).unwrap();
            }
            let ids: Vec<_> = seen.iter().map(|frame| frame.id).collect();
            assert_eq!(ids, [7, u64::MAX >> 1, 0x0102_0304_0506_0708]);
            assert!(seen.iter().all(|frame| frame.token == token(frame.id)), "{seen:?}");
            let lens: Vec<_> = seen.iter().map(|frame| frame.body_len).collect();
            assert_eq!(lens, templates.each_ref().map(Template::body_len));
            assert_eq!(
                seen.iter().map(|frame| (frame.request, frame.ok)).collect::<Vec<_>>(),
                [(true, false), (false, true), (false, true)]
            );
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(
            Reader::new(Protocol::Dubbo, Peer::Client).feed(b"HTTP/1.1 400 Bad Request\r\n", |_| ()),
            Err(Unknown("dubbo"))
        );
    }

    #[test]
    fn short_frames_have_no_token() {
        let mut seen = Vec::new();
        let heartbeat = bytes(&Template::heartbeat_reply(), 3);
        Reader::new(Protocol::Dubbo, Peer::Client).feed(&heartbeat, |frame| seen.push(frame)).unwrap();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].event && !seen[0].ok && seen[0].token == [0; 16]);
    }

    #[test]
    fn frames_of_every_protocol_are_read_back() {
        for protocol in [Protocol::Thrift, Protocol::Brpc, Protocol::Trpc] {
            for from in [Peer::Client, Peer::Server] {
                let template = match from {
                    Peer::Client => Template::request(protocol, 64),
                    Peer::Server => Template::response(protocol, 64),
                };
                let mut stream = Vec::new();
                for id in [1, 200, 0x7fff_ffff] {
                    stream.extend_from_slice(&bytes(&template, id));
                }
                for step in [1, 7, stream.len()] {
                    let mut reader = Reader::new(protocol, from);
                    let mut seen = Vec::new();
                    for chunk in stream.chunks(step) {
                        reader.feed(chunk, |frame| seen.push(frame)).unwrap();
                    }
                    let ids: Vec<_> = seen.iter().map(|frame| frame.id).collect();
                    assert_eq!(ids, [1, 200, 0x7fff_ffff], "{protocol:?}");
                    for frame in seen {
                        assert_eq!(frame.token, token(frame.id));
                        assert_eq!(frame.body_len, template.body_len());
                        assert_eq!((frame.request, frame.ok), (from == Peer::Client, from == Peer::Server));
                    }
                }
            }
        }
    }
}
