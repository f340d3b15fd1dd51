//! Header compression, RFC 7541. The decoder takes bytes from anyone; the encoder never uses Huffman, since what it
//! sends goes to an Envoy in the same process.

mod decode;
mod encode;
mod huffman;
mod table;

pub(crate) use decode::{Decoder, List};
pub(crate) use encode::Encoder;

/// The size of the dynamic table unless SETTINGS_HEADER_TABLE_SIZE says otherwise.
pub(crate) const DEFAULT_TABLE_SIZE: usize = 4096;

/// What an entry of a table or list costs beside its bytes, RFC 7541 section 4.1.
const ENTRY_OVERHEAD: usize = 32;

/// A header list in one buffer that is used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((name_end, self.bytes.len()));
    }

    /// Name and value of each field in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, end)| {
            let name = self.bytes.get(start..name_end).unwrap_or_default();
            let value = self.bytes.get(name_end..end).unwrap_or_default();
            start = end;
            (name, value)
        })
    }
}

fn entry_size(name: &[u8], value: &[u8]) -> usize {
    name.len().saturating_add(value.len()).saturating_add(ENTRY_OVERHEAD)
}

#[cfg(test)]
mod tests;
