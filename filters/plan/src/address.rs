//! Blocks of addresses.
use core::fmt;
use core::net::IpAddr;

/// The addresses that begin as one does, for so many bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    address: IpAddr,
    bits: u32,
}

impl Block {
    /// Reads `10.0.0.0/8`, or an address alone, which is a block of its own.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            // Not a sign, nor a zero before other digits.
            Some((address, bits)) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(bits.parse().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        // Clients' addresses are never in the form that stands for one of version 4.
        let is_plain = address.to_canonical() == address;
        (bits <= most && is_plain).then_some(Self { address, bits })
    }

    /// Whether an address is one of them.
    pub(super) fn has(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_addresses_that_begin_like_it() {
        for (block, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/24", "10.1.2.255", "10.1.3.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("fd00::1/128", "fd00::1", "fd00::2"),
            ("::/0", "fd00::1", "10.0.0.1"),
        ] {
            let has = |address: &str| Block::new(block).unwrap().has(address.parse().unwrap());
            assert!(has(inside) && !has(outside), "{block}");
        }
    }

    #[test]
    fn what_is_no_block_is_none() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fd00::/129",
            "::ffff:10.0.0.1/104",
            "x/8",
        ] {
            assert!(Block::new(text).is_none(), "{text}");
        }
    }
}
