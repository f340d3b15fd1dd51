use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::protocol::MOST_NAME;
use crate::Error;

/// As much of a message as holds its front.
const FRONT: usize = MOST_NAME + 64;

/// The largest part of a stream that is stored as it is.
const MOST_STORED: usize = 0xffff;

/// What the front of a message is when the bytes that are there of it are inflated: perhaps nothing.
pub(super) fn front(compressed: &[u8]) -> Vec<u8> {
    decompress_to_vec_zlib_with_limit(compressed, FRONT).unwrap_or_else(|error| error.output)
}

/// Inflates a message of at most `most` bytes, which is at `offset` of its frame.
pub(super) fn inflate(compressed: &[u8], most: usize, offset: usize) -> Result<Vec<u8>, Error> {
    use miniz_oxide::inflate::TINFLStatus;
    decompress_to_vec_zlib_with_limit(compressed, most).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => {
            let size = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
            Error::TooLarge { what: "inflated message", size, limit: most }
        }
        _ => Error::Malformed { what: "compressed message", offset },
    })
}

/// Appends `message` as zlib has it that compresses nothing.
pub(super) fn store(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x78, 0x01]);
    let mut rest = message;
    loop {
        let (part, after) = rest.split_at(rest.len().min(MOST_STORED));
        rest = after;
        let size = u16::try_from(part.len()).unwrap_or(u16::MAX);
        out.push(u8::from(rest.is_empty()));
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&(!size).to_le_bytes());
        out.extend_from_slice(part);
        if rest.is_empty() {
            break;
        }
    }
    out.extend_from_slice(&adler32(message).to_be_bytes());
}

fn adler32(bytes: &[u8]) -> u32 {
    const BASE: u32 = 65_521;
    let (mut low, mut high) = (1_u32, 0_u32);
    // So many bytes add up to less than 32 bits hold.
    for part in bytes.chunks(5552) {
        for byte in part {
            low = low.wrapping_add(u32::from(*byte));
            high = high.wrapping_add(low);
        }
        low = low.checked_rem(BASE).unwrap_or_default();
        high = high.checked_rem(BASE).unwrap_or_default();
    }
    high << 16 | low
}
