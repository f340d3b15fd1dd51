use super::table::Table;
use super::{DEFAULT_TABLE_SIZE, Fields, entry_size, huffman};

/// Decodes the header blocks of one connection in their order.
pub(crate) struct Decoder {
    table: Table,
    scratch: Vec<u8>,
}

/// A block that is not HPACK; the connection cannot go on (RFC 9113 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How much of a header list is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Whole,
    /// Fields over the limit were left out. The tables are right all the same.
    Cut,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(), scratch: Vec::new() }
    }

    /// Decodes one whole block into `fields`, up to `limit` bytes by the measure of SETTINGS_MAX_HEADER_LIST_SIZE.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        fields: &mut Fields,
    ) -> Result<List, Malformed> {
        fields.clear();
        let mut input = block;
        let mut size = 0_usize;
        let mut first = true;
        while let Some(&byte) = input.first() {
            let resized = byte & 0xe0 == 0x20;
            if resized {
                // Only at the head of a block, section 4.2.
                let capacity = integer(&mut input, 5)?;
                if !first || capacity > DEFAULT_TABLE_SIZE || input.is_empty() {
                    return Err(Malformed);
                }
                self.table.resize(capacity);
                continue;
            }
            first = false;
            if byte & 0x80 != 0 {
                let index = integer(&mut input, 7)?;
                let (name, value) = self.table.get(index).ok_or(Malformed)?;
                size = size.saturating_add(entry_size(name, value));
                if size <= limit {
                    fields.push(name, value);
                }
                continue;
            }
            let indexed = byte & 0x40 != 0;
            let index = integer(&mut input, if indexed { 6 } else { 4 })?;
            self.scratch.clear();
            if index == 0 {
                string(&mut input, &mut self.scratch)?;
            } else {
                let (name, _) = self.table.get(index).ok_or(Malformed)?;
                self.scratch.extend_from_slice(name);
            }
            let split = self.scratch.len();
            string(&mut input, &mut self.scratch)?;
            let (name, value) = self.scratch.split_at_checked(split).ok_or(Malformed)?;
            size = size.saturating_add(entry_size(name, value));
            if size <= limit {
                fields.push(name, value);
            }
            if indexed {
                self.table.insert(name, value);
            }
        }
        Ok(if size <= limit { List::Whole } else { List::Cut })
    }
}

/// An integer with a prefix of so many bits, section 5.1.
fn integer(input: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (&first, mut rest) = input.split_first().ok_or(Malformed)?;
    let mask = 0xff_u8.checked_shr(8_u32.saturating_sub(prefix)).ok_or(Malformed)?;
    let mut value = u32::from(first & mask);
    if first & mask == mask {
        let mut shift = 0_u32;
        loop {
            let (&byte, tail) = rest.split_first().ok_or(Malformed)?;
            rest = tail;
            // Four bytes hold 28 bits, far over every limit; a longer form is an error by section 5.1.
            if shift > 21 {
                return Err(Malformed);
            }
            value = value.saturating_add(u32::from(byte & 0x7f) << shift);
            shift = shift.saturating_add(7);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    usize::try_from(value).map_err(|_| Malformed)
}

/// A string literal, section 5.2.
fn string(input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let coded = input.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = integer(input, 7)?;
    let (text, rest) = input.split_at_checked(length).ok_or(Malformed)?;
    *input = rest;
    if coded {
        return huffman::decode(text, out).ok_or(Malformed);
    }
    out.extend_from_slice(text);
    Ok(())
}
