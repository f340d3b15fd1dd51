//! The headers of the header transports.

use super::cursor::{Cursor, Read, Stop, length, unsupported, write_varint};
use super::transport::Transport;
use crate::edit::{Fate, Pass, grown};
use crate::{Edit, Error};

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Info<'a> {
    /// The kind of its block.
    kind: u8,
    pub(super) key: Key<'a>,
    pub(super) value: &'a [u8],
}

/// What a header is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Text(&'a [u8]),
    Number(u16),
    Token,
}

/// The name of Kitex's access token, which has no key on the wire.
pub(super) const TOKEN_NAME: &str = "RPC_TRANSIT_gdpr-token";

/// The header by which a Kitex server says that it is about to close the connection.
pub(super) const STOPPING: &[u8] = b"crrst";

/// The header with the checksum of a Kitex message, which holds no more when the sequence id is another.
pub(super) const CHECKSUM: &str = "crc32c";

/// The names of Kitex's integer headers, each at its number.
const NAMES: [&str; 28] = [
    "meshVersion",
    "transportType",
    "logId",
    "fromService",
    "fromCluster",
    "fromIdc",
    "toService",
    "toCluster",
    "toIdc",
    "toMethod",
    "env",
    "destAddress",
    "rpcTimeout",
    "readTimeout",
    "ringHashKey",
    "ddpTag",
    "withMeshHeader",
    "connectTimeout",
    "spanContext",
    "shortConnection",
    "fromMethod",
    "stressTag",
    "msgType",
    "httpContentType",
    "rawRingHashKey",
    "lbType",
    "clusterShardId",
    "frameType",
];

/// The number of the header that names the service which is called.
pub(super) const TO_SERVICE: u16 = 6;

/// The number of the header that says how many milliseconds the client waits.
const TIMEOUT: u16 = 12;

/// Kinds of blocks. The first two have text for keys; those of the second hold for all later messages of a connection.
const TEXT: u8 = 1;
const LASTING: u8 = 2;
const NUMBER: u8 = 0x10;
const TOKEN: u8 = 0x11;

impl Info<'_> {
    /// Whether it holds for all later messages of a connection.
    pub(super) fn is_lasting(&self) -> bool {
        self.kind == LASTING
    }
}

impl<'a> Key<'a> {
    /// What it is known by; `None` if that is no text.
    pub(super) fn name(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => str::from_utf8(text).ok(),
            Self::Number(number) => NAMES.get(usize::from(number)).copied(),
            Self::Token => Some(TOKEN_NAME),
        }
    }

    /// Calls `use_name` with what it is known by: integers without a name by their digits.
    pub(super) fn with_name(self, use_name: &mut dyn FnMut(&str)) {
        match (self.name(), self) {
            (Some(name), _) => use_name(name),
            (None, Self::Number(number)) => {
                let mut digits = [b'0'; 5];
                let mut left = number;
                for digit in digits.iter_mut().rev() {
                    *digit = digit.wrapping_add((left % 10) as u8);
                    left /= 10;
                }
                let zeros = digits.iter().take(4).take_while(|digit| **digit == b'0').count();
                use_name(
                    digits.get(zeros..).and_then(|digits| str::from_utf8(digits).ok()).unwrap_or_default(),
                );
            }
            (None, _) => {}
        }
    }

    fn is(self, name: &str) -> bool {
        let mut is_named = false;
        self.with_name(&mut |own| is_named = own == name);
        is_named
    }

    /// The key of TTHeader that is known by `name`.
    fn of(name: &'a str) -> Self {
        if name == TOKEN_NAME {
            return Self::Token;
        }
        let known = NAMES.iter().position(|known| *known == name).and_then(|at| u16::try_from(at).ok());
        let number = known.or_else(|| name.parse().ok().filter(|number| Self::Number(*number).is(name)));
        number.map_or(Self::Text(name.as_bytes()), Self::Number)
    }
}

/// A block of headers.
struct Block<'a> {
    kind: u8,
    left: u32,
    cursor: Cursor<'a>,
    transport: Transport,
}

impl<'a> Block<'a> {
    /// The block at the front of `cursor`, which is to be put behind it when it was read; `None` at the end.
    fn open(mut cursor: Cursor<'a>, transport: Transport) -> Read<Option<Self>> {
        loop {
            if cursor.at() >= cursor.end() {
                return Ok(None);
            }
            let at = cursor.at();
            let kind = cursor.byte()?;
            let left = match (transport, kind) {
                (Transport::THeader, 0) => return Ok(None),
                (Transport::THeader, TEXT | LASTING) => cursor.varint()?,
                (Transport::TtHeader { .. }, 0) => continue,
                (Transport::TtHeader { .. }, TEXT | NUMBER) => cursor.u16()?.into(),
                (Transport::TtHeader { .. }, TOKEN) => 1,
                _ => return unsupported("kind of headers", at),
            };
            return Ok(Some(Self { kind, left, cursor, transport }));
        }
    }

    fn next(&mut self) -> Read<Option<Info<'a>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left = self.left.saturating_sub(1);
        let key = match self.kind {
            NUMBER => Key::Number(self.cursor.u16()?),
            TOKEN => Key::Token,
            _ => Key::Text(self.text()?),
        };
        Ok(Some(Info { kind: self.kind, key, value: self.text()? }))
    }

    fn text(&mut self) -> Read<&'a [u8]> {
        let size = match self.transport {
            Transport::THeader => length(self.cursor.varint()?),
            _ => self.cursor.u16()?.into(),
        };
        self.cursor.take(size)
    }
}

/// Calls `see` with each of the headers in `cursor`.
pub(super) fn each<'a>(
    mut cursor: Cursor<'a>,
    transport: Transport,
    see: &mut dyn FnMut(Info<'a>),
) -> Read<()> {
    while let Some(mut block) = Block::open(cursor, transport)? {
        while let Some(info) = block.next()? {
            see(info);
        }
        cursor = block.cursor;
    }
    Ok(())
}

/// How many milliseconds the client waits, if the headers in `cursor` say so. The first one counts.
pub(super) fn time(cursor: Cursor<'_>, transport: Transport) -> Option<u32> {
    let mut time = None;
    let read = each(cursor, transport, &mut |info| {
        if info.key == Key::Number(TIMEOUT) {
            time = time.or(Some(info.value));
        }
    });
    read.ok()?;
    str::from_utf8(time?).ok()?.parse().ok().filter(|millis| *millis > 0)
}

/// Appends the headers in `cursor`, changed as `edit` says and without any `stale` one: what stays is where it was, what
/// is new follows.
pub(super) fn write(
    mut cursor: Cursor<'_>,
    transport: Transport,
    edit: &Edit<'_>,
    stale: Option<&str>,
    out: &mut Vec<u8>,
) -> Read<()> {
    let (mut kept, mut pass) = (Vec::new(), Pass::new(edit));
    let millis = edit.millis().map(|millis| millis.to_string());
    while let Some(mut block) = Block::open(cursor, transport)? {
        kept.clear();
        let mut count = 0_u32;
        while let Some(info) = block.next()? {
            let mut fate = Fate::Stays;
            info.key.with_name(&mut |name| {
                fate = if stale == Some(name) { Fate::Goes } else { pass.meet(name, true) };
            });
            match fate {
                Fate::Goes => continue,
                Fate::Stays => {
                    let value = match &millis {
                        Some(millis) if info.key == Key::Number(TIMEOUT) => millis.as_bytes(),
                        _ => info.value,
                    };
                    write_info(transport, &Info { value, ..info }, &mut kept);
                }
                Fate::Grows(more) => {
                    let value = &*grown(info.value, more);
                    check(transport, value.len())?;
                    write_info(transport, &Info { value, ..info }, &mut kept);
                }
            }
            count = count.saturating_add(1);
        }
        cursor = block.cursor;
        if count > 0 {
            write_front(transport, block.kind, count, out);
            out.extend_from_slice(&kept);
        }
    }
    while let Some((name, value)) = pass.next() {
        check(transport, name.len().max(value.len()))?;
        let key = match transport {
            Transport::THeader => Key::Text(name.as_bytes()),
            _ => Key::of(name),
        };
        let kind = match key {
            Key::Text(_) => TEXT,
            Key::Number(_) => NUMBER,
            Key::Token => TOKEN,
        };
        write_front(transport, kind, 1, out);
        write_info(transport, &Info { kind, key, value: value.as_bytes() }, out);
    }
    Ok(())
}

/// Refuses what is too long for a name or a value.
fn check(transport: Transport, len: usize) -> Read<()> {
    if transport == Transport::THeader || len <= usize::from(u16::MAX) {
        return Ok(());
    }
    let (size, limit) = (u64::try_from(len).unwrap_or(u64::MAX), usize::from(u16::MAX));
    Err(Stop::Bad(Error::TooLarge { what: "header", size, limit }))
}

fn write_front(transport: Transport, kind: u8, count: u32, out: &mut Vec<u8>) {
    out.push(kind);
    match (transport, kind) {
        (Transport::THeader, _) => write_varint(out, count),
        (_, TOKEN) => {}
        _ => out.extend_from_slice(&(count as u16).to_be_bytes()),
    }
}

fn write_info(transport: Transport, info: &Info<'_>, out: &mut Vec<u8>) {
    match info.key {
        Key::Text(text) => write_text(transport, text, out),
        Key::Number(number) => out.extend_from_slice(&number.to_be_bytes()),
        Key::Token => {}
    }
    write_text(transport, info.value, out);
}

fn write_text(transport: Transport, text: &[u8], out: &mut Vec<u8>) {
    match transport {
        Transport::THeader => write_varint(out, u32::try_from(text.len()).unwrap_or(u32::MAX)),
        _ => out.extend_from_slice(&(text.len() as u16).to_be_bytes()),
    }
    out.extend_from_slice(text);
}
