//! Dubbo frames made once and patched per request, and a reader that looks at no more of a frame than it must.

/// Length of a Dubbo header.
pub const HEADER: usize = 16;

/// The interface that is called.
pub const INTERFACE: &str = "org.apache.dubbo.demo.DemoService";

/// The method that is called, with one string.
pub const METHOD: &str = "sayHello";

const MAGIC: [u8; 2] = [0xda, 0xbb];
const HESSIAN2: u8 = 2;
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
const OK: u8 = 20;
/// Response flag: a value, with attachments.
const VALUE_WITH_ATTACHMENTS: u8 = 0x94;
/// Chunk length of long strings, as Apache Dubbo's Hessian library writes them.
const CHUNK: usize = 0x8000;
/// Frames up to this length are kept in one piece; of longer ones only the part that differs is copied per request.
const ONE_PIECE: usize = 1024;

/// An id written as text, first in the string of a request and of its response. Proxies may renumber frames; this they leave.
pub type Token = [u8; 16];

/// The token of an id.
#[must_use]
pub fn token(id: u64) -> Token {
    std::array::from_fn(|i| b'a' + ((id >> (60 - 4 * i)) & 15) as u8)
}

/// Where the string of a request starts within its frame.
fn request_string() -> usize {
    HEADER + preamble().len()
}

/// Where the string of a response starts within its frame.
const RESPONSE_STRING: usize = HEADER + 1;

/// A frame but for its id and its token.
#[derive(Debug, Clone)]
pub struct Template {
    head: Vec<u8>,
    tail: Vec<u8>,
    token: Option<usize>,
}

impl Template {
    /// A call of [`METHOD`] with a string of `body` bytes, at least those of a [`Token`].
    #[must_use]
    pub fn request(body: usize) -> Self {
        let mut content = preamble();
        let at = content.len();
        string(&"x".repeat(body), &mut content);
        content.push(b'H');
        for (name, value) in [
            ("path", INTERFACE),
            ("interface", INTERFACE),
            ("version", "0.0.0"),
            ("remote.application", "bench"),
            ("timeout", "5000"),
        ] {
            string(name, &mut content);
            string(value, &mut content);
        }
        content.push(b'Z');
        Self::new(REQUEST | TWO_WAY | HESSIAN2, 0, &content, Some(at))
    }

    /// The successful answer to such a call: a string of `body` bytes.
    #[must_use]
    pub fn response(body: usize) -> Self {
        let mut content = vec![VALUE_WITH_ATTACHMENTS];
        string(&"y".repeat(body), &mut content);
        content.push(b'H');
        string("dubbo", &mut content);
        string("2.0.2", &mut content);
        content.push(b'Z');
        Self::new(HESSIAN2, OK, &content, Some(1))
    }

    /// The answer to a heartbeat.
    #[must_use]
    pub fn heartbeat_reply() -> Self {
        Self::new(EVENT | HESSIAN2, OK, b"N", None)
    }

    fn new(flags: u8, status: u8, content: &[u8], string: Option<usize>) -> Self {
        let mut head = Vec::with_capacity(HEADER + content.len());
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&[flags, status]);
        head.extend_from_slice(&[0; 8]);
        head.extend_from_slice(&u32::try_from(content.len()).expect("a short body").to_be_bytes());
        head.extend_from_slice(content);
        let token = string.map(|at| HEADER + at).map(|at| at + string_header(head[at]));
        let end = token.map_or(HEADER, |at| at + size_of::<Token>());
        let tail = if head.len() > ONE_PIECE { head.split_off(end) } else { Vec::new() };
        Self { head, tail, token }
    }

    /// Length of the frame after its header.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.len() - HEADER
    }

    /// Length of the whole frame.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Appends the front of the frame, which holds its id and token.
    pub fn write_head(&self, id: u64, token: &Token, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        out[start + 4..start + 12].copy_from_slice(&id.to_be_bytes());
        if let Some(at) = self.token {
            out[start + at..start + at + token.len()].copy_from_slice(token);
        }
    }

    /// Length of what [`Template::write_head`] appends.
    #[must_use]
    pub fn head_len(&self) -> usize {
        self.head.len()
    }

    /// What follows the head, the same for every id. Often empty.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }
}

/// A request's body up to its arguments.
fn preamble() -> Vec<u8> {
    let mut out = Vec::new();
    for text in ["2.0.2", INTERFACE, "0.0.0", METHOD, "Ljava/lang/String;"] {
        string(text, &mut out);
    }
    out
}

/// Appends a Hessian2 string of ASCII text in the form that Apache Dubbo picks for its length.
fn string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while rest.len() > CHUNK {
        let (chunk, more) = rest.split_at(CHUNK);
        out.push(b'R');
        out.extend_from_slice(&(CHUNK as u16).to_be_bytes());
        out.extend_from_slice(chunk);
        rest = more;
    }
    let len = (rest.len() as u16).to_be_bytes();
    match rest.len() {
        0..32 => out.push(len[1]),
        32..1024 => out.extend_from_slice(&[0x30 | len[0], len[1]]),
        _ => out.extend_from_slice(&[b'S', len[0], len[1]]),
    }
    out.extend_from_slice(rest);
}

/// Length of what precedes the text of a string that starts with the byte `first`.
fn string_header(first: u8) -> usize {
    match first {
        0..32 => 1,
        0x30..=0x33 => 2,
        _ => 3,
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
    /// Length of the frame after its header.
    pub body_len: usize,
}

/// The stream does not hold Dubbo frames at this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Dubbo frame")]
pub struct NotDubbo;

/// Splits a stream into frames. Of each it keeps the front and passes over the rest.
#[derive(Debug, Default)]
pub struct Reader {
    /// The front of a frame whose front is not complete yet.
    front: Vec<u8>,
    /// A frame whose front is complete, and how many of its bytes are still to come.
    current: Option<(Seen, usize)>,
}

impl Reader {
    /// Takes the next bytes of the stream, and calls `each` for every frame that they complete.
    ///
    /// # Errors
    ///
    /// [`NotDubbo`] when a frame does not start with the magic; the stream is lost.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Seen)) -> Result<(), NotDubbo> {
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
                && let Some((seen, len, taken)) = look(bytes)?
            {
                self.current = Some((seen, len - taken));
                bytes = &bytes[taken..];
                continue;
            }
            // The front straddles two reads: collect it byte by byte, which is rare and short.
            self.front.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((seen, len, taken)) = look(&self.front)? {
                self.front.clear();
                self.current = Some((seen, len - taken));
            }
        }
    }
}

/// Reads the front of the frame at the start of `bytes`, if it is there: the frame, its length, and the front's.
fn look(bytes: &[u8]) -> Result<Option<(Seen, usize, usize)>, NotDubbo> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if header[..2] != MAGIC {
        return Err(NotDubbo);
    }
    let flags = header[2];
    let request = flags & REQUEST != 0;
    let body_len = u32::from_be_bytes([header[12], header[13], header[14], header[15]]) as usize;
    let len = HEADER + body_len;
    let string = if request { request_string() } else { RESPONSE_STRING };
    let front = (string + 3 + size_of::<Token>()).min(len);
    let Some(front_bytes) = bytes.get(..front) else {
        return Ok(None);
    };
    let token = front_bytes
        .get(string)
        .map(|&first| string + string_header(first))
        .and_then(|at| front_bytes.get(at..at + size_of::<Token>()))
        .and_then(|token| token.try_into().ok())
        .unwrap_or_default();
    let seen = Seen {
        request,
        event: flags & EVENT != 0,
        two_way: flags & TWO_WAY != 0,
        ok: !request && header[3] == OK && front_bytes.get(HEADER) == Some(&VALUE_WITH_ATTACHMENTS),
        id: u64::from_be_bytes(std::array::from_fn(|i| header[4 + i])),
        token,
        body_len,
    };
    Ok(Some((seen, len, front)))
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
        let templates = [Template::request(64), Template::response(64), Template::response(16 << 10)];
        let mut stream = Vec::new();
        for (template, id) in templates.iter().zip([7, u64::MAX >> 1, 0x0102_0304_0506_0708]) {
            stream.extend_from_slice(&bytes(template, id));
        }
        for step in [1, 2, 3, 15, 16, 17, 100, stream.len()] {
            let mut reader = Reader::default();
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
    fn long_strings_are_written_in_chunks() {
        let mut out = Vec::new();
        string(&"z".repeat(70_000), &mut out);
        assert_eq!(out[..3], [b'R', 0x80, 0]);
        assert_eq!(out[3 + CHUNK..6 + CHUNK], [b'R', 0x80, 0]);
        let rest = (70_000u32 - 2 * 0x8000) as u16;
        assert_eq!(out[6 + 2 * CHUNK], b'S');
        assert_eq!(out[7 + 2 * CHUNK..9 + 2 * CHUNK], rest.to_be_bytes());
        assert_eq!(out.len(), 70_000 + 9);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(Reader::default().feed(b"HTTP/1.1 400 Bad Request\r\n", |_| ()), Err(NotDubbo));
    }

    #[test]
    fn short_frames_have_no_token() {
        let mut seen = Vec::new();
        let heartbeat = bytes(&Template::heartbeat_reply(), 3);
        Reader::default().feed(&heartbeat, |frame| seen.push(frame)).unwrap();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].event && !seen[0].ok && seen[0].token == [0; 16]);
    }
}
