//! From bytes to frames. DATA payloads pass through as they come; every other frame is put together first.

use crate::frame::{HEAD, Head, PREFACE, flag, kind};
use crate::{Code, Side};

/// A broken rule and the code that names it, before it is known to be the connection's [`Error`](crate::Error).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) Code, pub(crate) &'static str);

/// What the reader found next.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A whole frame other than DATA.
    Frame(Head, Payload<'a>),
    /// A DATA frame begins. `overhead` of its length is padding.
    DataBegin { head: Head, overhead: u32 },
    /// Payload of the DATA frame that began last, never empty.
    Data(&'a [u8]),
    /// The end of a frame's payload with END_STREAM.
    DataEnd { stream: u32 },
}

/// A payload, in the input where it was whole there.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    /// Give it back with [`Reader::recycle`].
    Owned(Vec<u8>),
}

impl Payload<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// So many bytes of the client's preface have been seen.
    Preface(usize),
    /// Between frames, or within a frame's head, whose bytes are in `partial`.
    Head,
    /// Within a payload to be put together.
    Payload(Head),
    /// Before the pad length of DATA.
    PadLength(Head),
    Data {
        left: u32,
        padding: u32,
        stream: u32,
        end_stream: bool,
    },
    /// Padding, after which the stream `end` ends, or a frame of unknown kind.
    Skip {
        left: u32,
        end: Option<u32>,
    },
}

pub(crate) struct Reader {
    state: State,
    partial: Vec<u8>,
    max_frame_size: u32,
    /// The first frame must be SETTINGS, RFC 9113 section 3.4.
    begun: bool,
    /// The stream whose header block must go on before any other frame, section 4.3.
    pub(crate) continued: Option<u32>,
}

/// Capacity that the buffer for split frames keeps between frames.
const KEPT: usize = 4096;

impl Reader {
    pub(crate) fn new(side: Side, max_frame_size: u32) -> Self {
        let state = match side {
            Side::Downstream => State::Preface(0),
            Side::Upstream => State::Head,
        };
        Self { state, partial: Vec::new(), max_frame_size, begun: false, continued: None }
    }

    /// The next piece, or `None` when the input is empty.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Fault> {
        loop {
            match self.state {
                State::Preface(seen) => {
                    let expected = PREFACE.get(seen..).unwrap_or_default();
                    let count = expected.len().min(input.len());
                    if expected.get(..count) != input.get(..count) {
                        return Err(Fault(Code::ProtocolError, "the client preface is wrong"));
                    }
                    *input = input.get(count..).unwrap_or_default();
                    if count < expected.len() {
                        self.state = State::Preface(seen.saturating_add(count));
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Head => {
                    let Some(head) = self.head(input) else { return Ok(None) };
                    if let Some(piece) = self.begin(head)? {
                        return Ok(Some(piece));
                    }
                }
                State::Payload(head) => {
                    let Some(payload) = self.payload(head, input) else { return Ok(None) };
                    self.state = State::Head;
                    return Ok(Some(Piece::Frame(head, payload)));
                }
                State::PadLength(head) => {
                    let Some((&padding, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    let padding = u32::from(padding);
                    let overhead = padding.saturating_add(1);
                    let left = head
                        .length
                        .checked_sub(overhead)
                        .ok_or(Fault(Code::ProtocolError, "padding is longer than its frame"))?;
                    return Ok(Some(self.data(head, left, padding, overhead)));
                }
                State::Data { left: 0, padding, stream, end_stream } => {
                    self.state = State::Skip { left: padding, end: end_stream.then_some(stream) };
                }
                State::Data { left, padding, stream, end_stream } => {
                    let bytes = take(input, left);
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let left = left.saturating_sub(length(bytes));
                    self.state = if left == 0 && padding == 0 && !end_stream {
                        State::Head
                    } else {
                        State::Data { left, padding, stream, end_stream }
                    };
                    return Ok(Some(Piece::Data(bytes)));
                }
                State::Skip { left: 0, end } => {
                    self.state = State::Head;
                    if let Some(stream) = end {
                        return Ok(Some(Piece::DataEnd { stream }));
                    }
                }
                State::Skip { left, end } => {
                    let skipped = take(input, left);
                    if skipped.is_empty() {
                        return Ok(None);
                    }
                    self.state = State::Skip { left: left.saturating_sub(length(skipped)), end };
                }
            }
        }
    }

    /// Whether DATA of so many bytes may come next, and nothing of it has.
    pub(crate) fn may_begin(&self, length: u32) -> bool {
        let is_between = matches!(self.state, State::Head) && self.partial.is_empty();
        is_between && self.begun && self.continued.is_none() && length <= self.max_frame_size
    }

    /// Takes back the buffer of a payload.
    pub(crate) fn recycle(&mut self, payload: Payload<'_>) {
        if let Payload::Owned(mut buffer) = payload {
            buffer.clear();
            buffer.shrink_to(KEPT);
            self.partial = buffer;
        }
    }

    fn head(&mut self, input: &mut &[u8]) -> Option<Head> {
        if self.partial.is_empty()
            && let Some((head, rest)) = input.split_first_chunk::<HEAD>()
        {
            *input = rest;
            return Some(Head::parse(*head));
        }
        self.gather(input, HEAD);
        let head = Head::parse(*self.partial.first_chunk::<HEAD>()?);
        self.partial.clear();
        Some(head)
    }

    /// What a head leads to: a piece at once, or a new state.
    fn begin<'a>(&mut self, head: Head) -> Result<Option<Piece<'a>>, Fault> {
        if !self.begun {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Fault(Code::ProtocolError, "the first frame is not SETTINGS"));
            }
            self.begun = true;
        }
        let continues = (head.kind == kind::CONTINUATION).then_some(head.stream);
        if continues != self.continued {
            return Err(Fault(Code::ProtocolError, "a header block is interrupted, or none goes on"));
        }
        if head.length > self.max_frame_size {
            return Err(Fault(Code::FrameSizeError, "a frame is larger than was allowed"));
        }
        match head.kind {
            kind::DATA if head.has(flag::PADDED) => {
                if head.length == 0 {
                    return Err(Fault(Code::FrameSizeError, "a padded frame has no pad length"));
                }
                self.state = State::PadLength(head);
            }
            kind::DATA => return Ok(Some(self.data(head, head.length, 0, 0))),
            kind::HEADERS..=kind::CONTINUATION => self.state = State::Payload(head),
            _ => self.state = State::Skip { left: head.length, end: None },
        }
        Ok(None)
    }

    fn data<'a>(&mut self, head: Head, left: u32, padding: u32, overhead: u32) -> Piece<'a> {
        self.state =
            State::Data { left, padding, stream: head.stream, end_stream: head.has(flag::END_STREAM) };
        Piece::DataBegin { head, overhead }
    }

    fn payload<'a>(&mut self, head: Head, input: &mut &'a [u8]) -> Option<Payload<'a>> {
        let length = usize::try_from(head.length).ok()?;
        if self.partial.is_empty()
            && let Some((payload, rest)) = input.split_at_checked(length)
        {
            *input = rest;
            return Some(Payload::Borrowed(payload));
        }
        self.gather(input, length);
        (self.partial.len() >= length).then(|| Payload::Owned(std::mem::take(&mut self.partial)))
    }

    /// Moves input to `partial` until that has so many bytes.
    fn gather(&mut self, input: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(self.partial.len()).min(input.len());
        if let Some((part, rest)) = input.split_at_checked(missing) {
            self.partial.extend_from_slice(part);
            *input = rest;
        }
    }
}

/// Takes up to `left` bytes off the input.
fn take<'a>(input: &mut &'a [u8], left: u32) -> &'a [u8] {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at_checked(count).unwrap_or_default();
    *input = rest;
    taken
}

/// A length that is known to be at most a frame's.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
