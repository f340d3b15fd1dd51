use crate::Error;

const MAGIC: [u8; 2] = [0x09, 0x30];

/// Room for an id to grow in the longest message that is taken.
const ID_ROOM: u16 = 16;

/// What a frame is by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// A request or a response.
    Unary,
    /// Opens a stream, or says that it was opened.
    Init,
    /// A message of a stream.
    Data,
    /// What the other side may send more.
    Feedback,
    /// A side ends the stream, or both.
    Close,
}

/// The header at the front of every frame, big-endian: magic, type of frame, type of a stream's frame, length of all,
/// length of the message, id, version, and a byte in reserve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: Type,
    len: u32,
    /// As a stream's frames have it, it is 0 or the length of all that follows.
    pub(super) message: u16,
    pub(super) id: u32,
}

impl Header {
    pub(super) const LEN: usize = 16;

    /// Reads the header at the front of `input`; `None` when there are too few bytes for one.
    pub(super) fn parse(input: &[u8]) -> Result<Option<Self>, Error> {
        let malformed = |what, offset| Err(Error::Malformed { what, offset });
        for (offset, (byte, magic)) in input.iter().zip(MAGIC).enumerate() {
            if *byte != magic {
                return malformed("magic", offset);
            }
        }
        let Some((&[_, _, frame, stream, l0, l1, l2, l3, m0, m1, i0, i1, i2, i3, _, _], _)) =
            input.split_first_chunk()
        else {
            return Ok(None);
        };
        let kind = match (frame, stream) {
            (0, _) => Type::Unary,
            (1, 1) => Type::Init,
            (1, 2) => Type::Data,
            (1, 3) => Type::Feedback,
            (1, 4) => Type::Close,
            (1, _) => return Err(Error::Unsupported { what: "stream frame", offset: 3 }),
            _ => return Err(Error::Unsupported { what: "frame", offset: 2 }),
        };
        let header = Self {
            kind,
            len: u32::from_be_bytes([l0, l1, l2, l3]),
            message: u16::from_be_bytes([m0, m1]),
            id: u32::from_be_bytes([i0, i1, i2, i3]),
        };
        match header.len.checked_sub(16) {
            None => malformed("length", 4),
            Some(rest) if rest < header.message.into() => malformed("header length", 8),
            Some(_) => Ok(Some(header)),
        }
    }

    /// The header of a frame.
    pub(super) fn of(frame: &[u8]) -> Result<Self, Error> {
        Self::parse(frame)?.ok_or(Error::Malformed { what: "header", offset: frame.len() })
    }

    /// Length of the whole frame.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.len).unwrap_or(usize::MAX)
    }

    /// Length of the whole frame, if that and the message's are within their limits.
    pub(super) fn checked_len(&self, limit: usize) -> Result<usize, Error> {
        if self.kind == Type::Unary && self.message > u16::MAX - ID_ROOM {
            let (size, limit) = (self.message.into(), (u16::MAX - ID_ROOM).into());
            return Err(Error::TooLarge { what: "header", size, limit });
        }
        match usize::try_from(self.len) {
            Ok(len) if len <= limit => Ok(len),
            _ => Err(Error::TooLarge { what: "frame", size: self.len.into(), limit }),
        }
    }

    /// What follows the header in `frame`, whose header this is: the message, and the rest. The whole of a stream's frame
    /// is its message.
    pub(super) fn parts<'a>(&self, frame: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let rest = frame.get(..self.len()).unwrap_or(frame).get(Self::LEN..).unwrap_or_default();
        match self.kind {
            Type::Unary => rest.split_at_checked(self.message.into()).unwrap_or((rest, &[])),
            _ => (rest, &[]),
        }
    }
}
