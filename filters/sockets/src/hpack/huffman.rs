//! The Huffman code of RFC 7541 appendix B. It is canonical, so the lengths of the codes say all: codes of one length are
//! consecutive in the order of their symbols, and left-aligned they grow with the length.

/// Appends the text that `coded` stands for, at most 8/5 of its length; `None` if it is no valid code.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut bits = 0_u64;
    let mut count = 0_u32;
    let mut input = coded.iter();
    loop {
        while count <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << 56_u32.saturating_sub(count);
            count = count.saturating_add(8);
        }
        // Bits that are not there read as ones, which is what padding is.
        let window = (bits | u64::MAX.checked_shr(count).unwrap_or(0)) >> 32;
        let (length, symbol) = lookup(window)?;
        if length > count {
            let padding = count < 8 && bits | u64::MAX.checked_shr(count).unwrap_or(0) == u64::MAX;
            return padding.then_some(());
        }
        // EOS in a string is an error: the only symbol that is no byte.
        out.push(u8::try_from(symbol).ok()?);
        bits = bits.checked_shl(length)?;
        count = count.saturating_sub(length);
    }
}

/// The length of the code at the head of 32 bits, and its symbol.
fn lookup(window: u64) -> Option<(u32, u16)> {
    let row = CODE.rows.iter().find(|row| window < row.limit)?;
    let offset = window.saturating_sub(row.first) >> 32_u32.saturating_sub(row.length);
    let at = row.offset.saturating_add(usize::try_from(offset).ok()?);
    Some((row.length, *CODE.symbols.get(at)?))
}

/// Codes of one length, left-aligned in 32 bits.
#[derive(Clone, Copy)]
struct Row {
    length: u32,
    first: u64,
    limit: u64,
    /// Of the first code's symbol in [`Code::symbols`].
    offset: usize,
}

struct Code {
    rows: [Row; ROWS],
    symbols: [u16; 257],
}

const SHORTEST: u32 = 5;
const LONGEST: u32 = 30;
const ROWS: usize = (LONGEST - SHORTEST + 1) as usize;

static CODE: Code = code();

#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "evaluated at compile time only, where a mistake fails the build"
)]
const fn code() -> Code {
    let mut rows = [Row { length: 0, first: 0, limit: 0, offset: 0 }; ROWS];
    let mut symbols = [0; 257];
    let (mut length, mut next, mut at) = (SHORTEST, 0_u64, 0);
    while length <= LONGEST {
        let (first, offset) = (next, at);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as u32 == length {
                symbols[at] = symbol as u16;
                at += 1;
                next += 1 << (32 - length);
            }
            symbol += 1;
        }
        rows[(length - SHORTEST) as usize] = Row { length, first, limit: next, offset };
        length += 1;
    }
    assert!(at == 257 && next == 1 << 32, "the code is complete");
    Code { rows, symbols }
}

/// The length of each symbol's code in bits, RFC 7541 appendix B. The last is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
