//! Texts by eight bytes at a time, where what Wasm modules have goes by one or by four.

/// Whether two texts are equal.
#[inline(never)]
pub fn are_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    let differ = |(one, other): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
    if words.iter().zip(other_words).map(differ).fold(0, |all, bits| all | bits) != 0 {
        return false;
    }
    // The last eight bytes are all that is left, and more.
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(last), Some(other_last)) => differ((last, other_last)) == 0,
        _ => rest.iter().zip(other_rest).all(|(one, other)| one == other),
    }
}

/// Whether all of a text is ASCII.
#[inline]
pub(crate) fn is_ascii(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let all = words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
    let rest = rest.iter().fold(0, |all, byte| all | byte);
    (all & 0x8080_8080_8080_8080) == 0 && rest.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ascii_in_each_byte() {
        for len in 0..40 {
            let mut text = vec![0x7f; len];
            assert!(is_ascii(&text));
            for at in 0..len {
                text[at] = 0x80;
                assert!(!is_ascii(&text), "{at} of {len}");
                text[at] = 0x7f;
            }
        }
    }

    #[test]
    fn texts_are_the_same_in_each_byte() {
        let text: Vec<u8> = (0..50).collect();
        for len in 0..text.len() {
            let known = &text[..len];
            assert!(are_same(known, known));
            assert!(!are_same(known, &text[..len + 1]) && !are_same(&text[..len + 1], known));
            for at in 0..len {
                let mut other = known.to_vec();
                other[at] ^= 0x80;
                assert!(!are_same(known, &other), "{at} of {len}");
            }
        }
    }
}
