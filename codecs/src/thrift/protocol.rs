use core::ops::Range;

use super::cursor::{Cursor, Read, Stop, length, malformed, unsupported, write_varint};
use crate::Error;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The binary protocol, with a version in front of each message.
    Binary,
    /// The binary protocol of before there were versions, which many servers still read.
    OldBinary,
    /// The compact protocol.
    Compact,
}

/// The first byte of a message in the binary protocol, and the second.
pub(super) const BINARY: [u8; 2] = [0x80, 0x01];
/// The first byte of a message in the compact protocol.
pub(super) const COMPACT: u8 = 0x82;
/// The version of the compact protocol, in the low five bits of its second byte.
const COMPACT_VERSION: u8 = 1;

/// Types of messages.
pub(super) const CALL: u8 = 1;
pub(super) const REPLY: u8 = 2;
pub(super) const EXCEPTION: u8 = 3;
pub(super) const ONE_WAY: u8 = 4;

/// The longest name of a message: every length meets a limit.
pub(super) const MOST_NAME: usize = 1024;

/// The front of a message. Places are offsets in what it was read from.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    pub(super) protocol: Protocol,
    pub(super) kind: u8,
    pub(super) name: Range<usize>,
    /// The sequence id, and where it is.
    pub(super) id: u32,
    pub(super) id_at: Range<usize>,
    /// Where the struct of arguments, or of the result, begins.
    pub(super) body: usize,
}

impl Begin {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        let start = cursor.at();
        let (protocol, mut kind) = match cursor.peek()? {
            first if first == BINARY[0] => {
                let version = cursor.u32()?.to_be_bytes();
                if !version.starts_with(&BINARY) {
                    return malformed("version", start);
                }
                (Protocol::Binary, version[3])
            }
            COMPACT => {
                let version = cursor.u16()?.to_be_bytes()[1];
                if version & 0x1f != COMPACT_VERSION {
                    return unsupported("version", start);
                }
                (Protocol::Compact, version >> 5)
            }
            _ => (Protocol::OldBinary, 0),
        };
        let (mut id, mut id_at) = (0, start..start);
        if protocol == Protocol::Compact {
            let at = cursor.at();
            (id, id_at) = (cursor.varint()?, at..cursor.at());
        }
        let size = if protocol == Protocol::Compact { cursor.varint()? } else { cursor.u32()? };
        if length(size) > MOST_NAME {
            let what = "name of a message";
            return Err(Stop::Bad(Error::TooLarge { what, size: size.into(), limit: MOST_NAME }));
        }
        let at = cursor.at();
        cursor.take(length(size))?;
        let name = at..cursor.at();
        if protocol == Protocol::OldBinary {
            kind = cursor.byte()?;
        }
        if protocol != Protocol::Compact {
            let at = cursor.at();
            (id, id_at) = (cursor.u32()?, at..cursor.at());
        }
        if !(CALL..=ONE_WAY).contains(&kind) {
            return malformed("type of message", start);
        }
        Ok(Self { protocol, kind, name, id, id_at, body: cursor.at() })
    }
}

/// Appends the front of a message.
pub(super) fn write_begin(out: &mut Vec<u8>, protocol: Protocol, kind: u8, name: &[u8], id: u32) {
    let size = u32::try_from(name.len()).unwrap_or(u32::MAX);
    match protocol {
        Protocol::Binary => {
            out.extend_from_slice(&[BINARY[0], BINARY[1], 0, kind]);
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(name);
        }
        Protocol::OldBinary => {
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(name);
            out.push(kind);
        }
        Protocol::Compact => {
            out.extend_from_slice(&[COMPACT, kind << 5 | COMPACT_VERSION]);
            write_varint(out, id);
            write_varint(out, size);
            out.extend_from_slice(name);
            return;
        }
    }
    out.extend_from_slice(&id.to_be_bytes());
}

/// Appends a sequence id as `protocol` writes it.
pub(super) fn write_id(out: &mut Vec<u8>, protocol: Protocol, id: u32) {
    match protocol {
        Protocol::Binary | Protocol::OldBinary => out.extend_from_slice(&id.to_be_bytes()),
        Protocol::Compact => write_varint(out, id),
    }
}
