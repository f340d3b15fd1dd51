use std::mem;

use super::table::{Key, Table};
use super::{DEFAULT_TABLE_SIZE, entry_size};

/// Encodes the header blocks of one connection in their order.
pub(crate) struct Encoder {
    table: Table,
    /// The smallest and the last size that the peer has asked for since the last block.
    resize: Option<(usize, usize)>,
    /// The hashes of fields that were not in the table, each where its first byte says.
    seen: Box<[u32; 256]>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(), resize: None, seen: Box::new([0; 256]) }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. The next block confirms it (RFC 7541 section 4.2).
    pub(crate) fn resize(&mut self, size: usize) {
        let size = size.min(DEFAULT_TABLE_SIZE);
        let smallest = self.resize.map_or(size, |(smallest, _)| smallest.min(size));
        if self.resize.is_some() || size != self.table.capacity() {
            self.resize = Some((smallest, size));
        }
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.resize.take() {
            self.table.resize(smallest);
            integer(out, 5, 0x20, smallest);
            if last != smallest {
                self.table.resize(last);
                integer(out, 5, 0x20, last);
            }
        }
    }

    /// Adds a field to the block. The table keeps fields that come again: those whose value is always another, such as times and
    /// ids, would only push them out, and leave no more than their names there.
    pub(crate) fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        // Those that are larger are never in the table.
        let fits = entry_size(name, value) <= self.table.capacity() >> 4;
        let key = Key::new(name, if fits { value } else { &[] });
        let found = self.table.find(key, name, value);
        if let Some((index, true)) = found {
            return integer(out, 7, 0x80, index);
        }
        let keep = fits && (self.comes_again(key) || found.is_none());
        let index = found.map_or(0, |(index, _)| index);
        if keep {
            integer(out, 6, 0x40, index);
        } else {
            integer(out, 4, 0, index);
        }
        if index == 0 {
            string(out, name);
        }
        string(out, value);
        if keep {
            self.table.insert(name, value);
        }
    }

    /// Whether a field was here before, not long ago and as far as its hash says it.
    fn comes_again(&mut self, key: Key) -> bool {
        let [place, ..] = key.whole.to_be_bytes();
        let seen = self.seen.get_mut(usize::from(place));
        seen.is_some_and(|seen| mem::replace(seen, key.whole) == key.whole)
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 7, 0, text.len());
    out.extend_from_slice(text);
}

/// An integer after the bits of `head`, with a prefix of so many bits, section 5.1.
fn integer(out: &mut Vec<u8>, prefix: u32, head: u8, value: usize) {
    let mask = 0xff_u8.checked_shr(8_u32.saturating_sub(prefix)).unwrap_or(0);
    if let Ok(small) = u8::try_from(value)
        && small < mask
    {
        return out.push(head | small);
    }
    out.push(head | mask);
    let mut rest = value.saturating_sub(usize::from(mask));
    while rest >= 0x80 {
        out.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or(0));
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}
