use core::ops::Range;
use std::borrow::Cow;

use super::cursor::{Cursor, Read, length, malformed, unsupported};
use super::protocol::{BINARY, Begin, COMPACT, MOST_NAME, Protocol};
use super::zlib;

/// How messages are told apart on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One message after the other: where each ends, its structs say.
    Unframed,
    /// Each message behind its length.
    Framed,
    /// Apache's header transport: length, sequence id, transforms and headers.
    THeader,
    /// Kitex's header transport, which has integer headers and a token beside.
    TtHeader {
        /// Whether the message behind the header has a length of its own.
        framed: bool,
    },
}

/// What follows the length in THeader, and in TTHeader.
pub(super) const THEADER_MAGIC: [u8; 2] = [0x0f, 0xff];
pub(super) const TTHEADER_MAGIC: [u8; 2] = [0x10, 0x00];

/// Length of the fixed front of both header transports: length, magic, flags, sequence id, and how many words of headers
/// follow.
pub(super) const FRONT: usize = 14;

/// Where the sequence id is in that.
pub(super) const ID: Range<usize> = 8..12;

/// THeader's number of the compact protocol; that of the binary one is 0.
pub(super) const COMPACT_ID: u8 = 2;

/// THeader's number of the transform by zlib.
const ZLIB: u32 = 1;

/// What is around a message. Places are offsets from the frame's start.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) transport: Transport,
    /// Length of the frame, unless only the message says it.
    pub(super) len: Option<usize>,
    /// The sequence id that the header says.
    pub(super) id: Option<u32>,
    /// The headers: without what precedes them in their part of the frame.
    pub(super) infos: Range<usize>,
    /// Where the message is, compressed or not.
    pub(super) payload: usize,
    pub(super) is_compressed: bool,
    /// The protocol that the header says.
    pub(super) protocol: Option<Protocol>,
}

impl Envelope {
    /// Reads what precedes the message at the front of `input`.
    pub(super) fn read(input: &[u8]) -> Read<Self> {
        let mut cursor = Cursor::new(input);
        let mut envelope = Self {
            transport: Transport::Unframed,
            len: None,
            id: None,
            infos: 0..0,
            payload: 0,
            is_compressed: false,
            protocol: None,
        };
        match cursor.peek()? {
            first if first == BINARY[0] || first == COMPACT => return Ok(envelope),
            0..0x80 => {}
            _ => return malformed("first byte", 0),
        }
        let size = length(cursor.u32()?);
        let after = cursor.peek()?;
        if after.is_ascii_graphic() && size <= MOST_NAME {
            // The length of a name, in the old binary protocol.
            return Ok(envelope);
        }
        let len = size.saturating_add(4);
        cursor = cursor.within(4, len, "frame");
        envelope.transport = match after {
            _ if size == 0 => return malformed("length of frame", 0),
            0 | COMPACT => Transport::Framed,
            first if first == BINARY[0] => Transport::Framed,
            first if first == THEADER_MAGIC[0] => Transport::THeader,
            first if first == TTHEADER_MAGIC[0] => Transport::TtHeader { framed: false },
            _ => return malformed("message", 4),
        };
        envelope.len = Some(len);
        envelope.payload = 4;
        match envelope.transport {
            Transport::Unframed | Transport::Framed => {}
            Transport::THeader => envelope.read_header(cursor, THEADER_MAGIC)?,
            Transport::TtHeader { .. } => envelope.read_header(cursor, TTHEADER_MAGIC)?,
        }
        Ok(envelope)
    }

    fn read_header(&mut self, mut cursor: Cursor<'_>, magic: [u8; 2]) -> Read<()> {
        if cursor.u16()?.to_be_bytes() != magic {
            return malformed("magic", 4);
        }
        cursor.take(2)?;
        self.id = Some(cursor.u32()?);
        let size = usize::from(cursor.u16()?).saturating_mul(4);
        let start = cursor.at();
        let payload = start.saturating_add(size);
        if payload > cursor.end() {
            return malformed("length of headers", FRONT.saturating_sub(2));
        }
        let mut header = cursor.within(start, payload, "headers");
        if self.transport == Transport::THeader {
            self.protocol = Some(match header.varint()? {
                0 => Protocol::Binary,
                id if id == u32::from(COMPACT_ID) => Protocol::Compact,
                _ => return unsupported("protocol of THeader", start),
            });
            match header.varint()? {
                0 => {}
                1 if header.varint()? == ZLIB => self.is_compressed = true,
                _ => return unsupported("transform", header.at()),
            }
        } else {
            // The protocol is told by the message itself.
            header.byte()?;
            if header.byte()? != 0 {
                return unsupported("transform", header.at());
            }
        }
        self.infos = header.at()..payload;
        cursor.take(size)?;
        self.payload = payload;
        if let Transport::TtHeader { framed } = &mut self.transport
            && cursor.peek()? < 0x80
        {
            *framed = true;
            let end = length(cursor.u32()?).saturating_add(cursor.at());
            if end != cursor.end() {
                return malformed("length of message", payload);
            }
            self.payload = cursor.at();
        }
        Ok(())
    }

    /// Whether it has headers.
    pub(super) fn has_headers(&self) -> bool {
        matches!(self.transport, Transport::THeader | Transport::TtHeader { .. })
    }

    /// The headers of `input`, the frame.
    pub(super) fn headers<'a>(&self, input: &'a [u8]) -> Cursor<'a> {
        Cursor::new(input).within(self.infos.start, self.infos.end, "headers")
    }

    /// Reads the front of the message from as much of it as there is in `input`, the frame. With it comes what it was
    /// read from: the frame, or the front of what inflating the message makes.
    pub(super) fn message<'a>(&self, input: &'a [u8]) -> Read<(Begin, Cow<'a, [u8]>)> {
        if self.is_compressed {
            let front = zlib::front(input.get(self.payload..).unwrap_or_default());
            return Ok((self.inflated_message(&front)?, Cow::Owned(front)));
        }
        let end = self.len.unwrap_or(usize::MAX);
        let message = Begin::read(&mut Cursor::new(input).within(self.payload, end, "message"))?;
        self.check_protocol(&message)?;
        Ok((message, Cow::Borrowed(input)))
    }

    /// Reads the front of a message that was inflated.
    pub(super) fn inflated_message(&self, inflated: &[u8]) -> Read<Begin> {
        let mut cursor = Cursor::new(inflated).within(0, inflated.len(), "inflated message");
        let message = Begin::read(&mut cursor)?;
        self.check_protocol(&message)?;
        Ok(message)
    }

    fn check_protocol(&self, message: &Begin) -> Read<()> {
        match (self.protocol, message.protocol) {
            (None, _) | (Some(Protocol::Compact), Protocol::Compact) => Ok(()),
            (Some(Protocol::Binary), Protocol::Binary | Protocol::OldBinary) => Ok(()),
            _ => malformed("protocol of message", self.payload),
        }
    }
}
