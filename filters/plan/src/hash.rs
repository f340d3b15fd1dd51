//! By what calls are hashed, so that those with the same values go to the same endpoint.
use std::rc::Rc;

use meltemi_codecs::Head;

use super::{
    error::{Path, Result, fail},
    matches::attribute_name,
};

/// The attributes of calls that are hashed. Without any, calls are not.
#[derive(Debug, Clone)]
pub struct HashKey(Rc<[Box<str>]>);

/// How many attributes there may be.
const MOST: usize = 16;

impl HashKey {
    /// The hash of a call that has at least one of the attributes, the same in every proxy.
    #[inline]
    pub fn of(&self, head: &Head) -> Option<u64> {
        let mut hash = OFFSET;
        let mut is_hashed = false;
        for name in &*self.0 {
            if let Some(value) = head.get(name) {
                is_hashed = true;
                hash = value.bytes().fold(hash, add);
            }
            // No text has this byte: where one value ends and the next begins makes a difference.
            hash = add(hash, 0xff);
        }
        let hash = (hash ^ (hash >> 33)).wrapping_mul(MIX);
        is_hashed.then_some(hash ^ (hash >> 33))
    }

    /// The names of the attributes.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// FNV-1a: of few instructions, and the same everywhere.
#[inline]
fn add(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(PRIME)
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Spreads what the last bytes change over all bits: a constant of MurmurHash3.
const MIX: u64 = 0xff51_afd7_ed55_8ccd;

pub(super) fn hash_key(path: &Path<'_>, names: &[String]) -> Result<HashKey> {
    if names.len() > MOST {
        return fail(path, format!("names {} attributes; at most {MOST} are allowed", names.len()));
    }
    for (number, name) in names.iter().enumerate() {
        attribute_name(&path.index(number), name)?;
        if names.iter().take(number).any(|other| other == name) {
            return fail(
                &path.index(number),
                format!("{name:?} is in the list already; remove one of the two"),
            );
        }
    }
    Ok(HashKey(names.iter().map(|name| Box::from(&**name)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(names: &[&str]) -> HashKey {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        hash_key(&Path::Root, &names).unwrap()
    }

    fn head(attributes: &[(&str, &str)]) -> Head {
        let mut head = Head::new();
        attributes.iter().for_each(|(name, value)| head.push(name, value));
        head
    }

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        let user = key(&["user"]);
        let of = |value| user.of(&head(&[("user", value), ("item", "x")]));
        assert_eq!(of(""), Some(0xaf9b_af0b_40b2_142d));
        assert_eq!(of("user-1"), Some(0xcbdd_8587_33f5_b264));
    }

    #[test]
    fn what_differs_in_one_value_or_its_place_differs() {
        let both = key(&["user", "item"]);
        let of = |attributes: &[(&str, &str)]| both.of(&head(attributes));
        let hashes = [
            of(&[("user", "a"), ("item", "b")]),
            of(&[("user", "b"), ("item", "a")]),
            of(&[("user", "ab"), ("item", "")]),
            of(&[("user", ""), ("item", "ab")]),
            of(&[("user", "a")]),
            of(&[("item", "a")]),
        ];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(hash.is_some() && !hashes.iter().take(at).any(|other| other == hash), "{at}");
        }
        assert_eq!(of(&[("item", "b"), ("user", "a"), ("other", "c")]), hashes[0]);
    }

    #[test]
    fn what_has_none_of_the_attributes_is_not_hashed() {
        assert_eq!(key(&["user", "item"]).of(&head(&[("method", "a")])), None);
        assert_eq!(key(&[]).of(&head(&[("method", "a")])), None);
    }

    #[test]
    fn hashes_spread_evenly() {
        let user = key(&["user"]);
        let mut counts = [0; 16];
        for n in 0..16_000 {
            let hash = user.of(&head(&[("user", &format!("user-{n}"))])).unwrap();
            counts[(hash % 16) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
