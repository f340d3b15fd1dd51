//! How much a plan's entry may be, and how large ones are written: packed, since what Kubernetes keeps in one object is about
//! a megabyte. The filter takes JSON by gzip and Base64 in the place of an object.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use meltemi_proxy::plan::{MOST_PACKED, raw};
use serde_json::Value;

use super::tree::Part;

/// Entries of so many bytes are packed; smaller ones are as people read them.
const FROM: usize = 64 << 10;

/// What an entry may weigh. An object has room for more, and so for any entry.
pub(super) const MOST: usize = 512 << 10;

/// What is worth a warning.
pub(super) const MUCH: usize = MOST / 5 * 4;

/// So many bytes that the filter has to unpack and read weigh as one that is written.
const READ: usize = 8;

/// An entry of a plan, which is packed if it is large.
pub(super) fn entry(service: &raw::Service) -> Part {
    let value = serde_json::to_value(service).unwrap_or_default();
    let json = value.to_string();
    let packed = (json.len() >= FROM).then(|| pack(&json)).flatten().filter(|text| text.len() < json.len());
    let written = packed.as_ref().map_or(json.len(), String::len);
    Part::new(value, packed, written.max(json.len() / READ))
}

/// Which of the parts of an entry that weighs too much have room in it, by their ranks and weights: those of the first rank
/// before others, and the light ones before those that need room at their cost.
pub(super) fn fitting(parts: &[(usize, usize)]) -> BTreeSet<usize> {
    let mut all: Vec<usize> = (0..parts.len()).collect();
    all.sort_by_key(|&at| parts[at]);
    let mut left = MOST;
    all.retain(|&at| {
        let rest = left.checked_sub(parts[at].1);
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    all.into_iter().collect()
}

/// A weight as people are told it.
pub(super) fn kib(weight: usize) -> String {
    format!("{} KiB", weight.div_ceil(1 << 10))
}

pub(crate) fn pack(json: &str) -> Option<String> {
    let mut writer = GzBuilder::new().write(Vec::new(), Compression::default());
    writer.write_all(json.as_bytes()).ok()?;
    Some(BASE64_STANDARD.encode(writer.finish().ok()?))
}

/// What is packed is more than a plan may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// Puts the entries of a plan, which is any JSON, in the place of what they are packed in, as far as that is so, and they are
/// no more than a plan may have.
pub fn unpack(plan: &mut Value) {
    let mut left = MOST_PACKED;
    let _ = unpack_within(plan, &mut left);
}

/// As [`unpack`], where the entries may be so many bytes together.
///
/// # Errors
///
/// They are more; what comes after that is left as it is.
pub(crate) fn unpack_within(plan: &mut Value, left: &mut usize) -> Result<(), TooMuch> {
    let services = plan.get_mut("services").and_then(Value::as_object_mut);
    for entry in services.into_iter().flat_map(|services| services.values_mut()) {
        let Some(json) = entry.as_str().and_then(|text| unpacked(text, *left)) else { continue };
        *left = left.checked_sub(json.len()).ok_or(TooMuch)?;
        if let Ok(unpacked) = serde_json::from_slice(&json) {
            *entry = unpacked;
        }
    }
    Ok(())
}

/// What is packed in a text; of what is more than `most`, a byte more.
fn unpacked(text: &str, most: usize) -> Option<Vec<u8>> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut json = Vec::new();
    GzDecoder::new(&*bytes).take(most).read_to_end(&mut json).ok()?;
    Some(json)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unpacked_is_no_more_than_it_may_be() {
        let entry = json!({"protocol": "dubbo", "notes": " ".repeat(1000)});
        let packed = pack(&entry.to_string()).unwrap();
        let plan = json!({"services": {"a": packed, "b": "no Base64", "c": packed, "d": {}}});
        let length = entry.to_string().len();

        let (mut read, mut left) = (plan.clone(), 2 * length + 5);
        assert_eq!(unpack_within(&mut read, &mut left), Ok(()));
        assert_eq!(read, json!({"services": {"a": entry, "b": "no Base64", "c": entry, "d": {}}}));
        assert_eq!(left, 5);

        for mut left in [0, length - 1, 2 * length - 1] {
            assert_eq!(unpack_within(&mut plan.clone(), &mut left), Err(TooMuch), "{left}");
        }
    }
}
