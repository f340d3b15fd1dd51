use nom::IResult;
use nom::error::{ErrorKind, ParseError};

use crate::Error;

/// What a parser gives: the rest of the input and what was read, or a [`Fault`].
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

/// Why a value cannot be read, and how many bytes of the input were left where that showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    left: usize,
    what: &'static str,
    unsupported: bool,
}

impl Fault {
    /// The bytes at `input` break the protocol.
    pub(crate) fn malformed<'a, T>(input: &'a [u8], what: &'static str) -> Parsed<'a, T> {
        Err(nom::Err::Error(Self { left: input.len(), what, unsupported: false }))
    }

    /// The bytes at `input` are beyond what is read here.
    pub(crate) fn unsupported<'a, T>(input: &'a [u8], what: &'static str) -> Parsed<'a, T> {
        Err(nom::Err::Error(Self { left: input.len(), what, unsupported: true }))
    }

    /// The public error of a parser's failure, in an input whose last byte is just before offset `end`.
    pub(crate) fn at(error: nom::Err<Self>, end: usize) -> Error {
        match error {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => {
                let offset = end.saturating_sub(fault.left);
                match fault.unsupported {
                    true => Error::Unsupported { what: fault.what, offset },
                    false => Error::Malformed { what: fault.what, offset },
                }
            }
            nom::Err::Incomplete(_) => Error::Malformed { what: "truncated value", offset: end },
        }
    }
}

impl ParseError<&[u8]> for Fault {
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        Self { left: input.len(), what: "truncated value", unsupported: false }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}
