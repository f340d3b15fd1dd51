//! Services that are written packed: a string in the place of the object, which is its JSON text by gzip and Base64.
//!
//! What Kubernetes keeps in one object is at most a megabyte, and ten thousand routes are more.

use base64ct::{Base64, Encoding};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use super::{PlanError, error::Path, json::Json};

/// The most that all packed services of a plan may be as JSON, in bytes.
pub const MOST: usize = 16 << 20;

/// What gzip (RFC 1952) puts before a file without a name: the method is deflate, no field is there. Time, level and
/// system follow.
const HEAD: [u8; 4] = [0x1f, 0x8b, 8, 0];
const REST_OF_HEAD: usize = 6;

/// Puts the objects of `document`, a plan, in the place of the strings that they are written by.
pub(super) fn unpack(document: &mut Json) -> Result<(), PlanError> {
    let Json::Object(members) = document else { return Ok(()) };
    let services = members.iter_mut().filter(|(name, _)| name == "services");
    let services = services.filter_map(|(_, value)| match value {
        Json::Object(services) => Some(services),
        _ => None,
    });
    let mut left = MOST;
    for (authority, service) in services.flatten() {
        let Json::String(text) = service else { continue };
        let services = Path::Root.key("services");
        let path = services.key(authority);
        let json = inflate(text, left).map_err(|message| PlanError::at(&path, message))?;
        left = left.saturating_sub(json.len());
        let unpacked = serde_json::from_slice(&json);
        *service =
            unpacked.map_err(|error| PlanError::at(&path, format!("what is packed is no JSON: {error}")))?;
    }
    Ok(())
}

fn inflate(text: &str, most: usize) -> Result<Vec<u8>, String> {
    let kind = "a packed service is its JSON by gzip and Base64";
    let bytes = Base64::decode_vec(text).map_err(|_| format!("{kind}; this is no Base64"))?;
    let deflated = bytes.strip_prefix(&HEAD).and_then(|rest| rest.get(REST_OF_HEAD..));
    let deflated =
        deflated.ok_or_else(|| format!("{kind}; this is not by gzip, or has a name or a comment"))?;
    decompress_to_vec_with_limit(deflated, most).map_err(|error| match error.status {
        TINFLStatus::HasMoreOutput => {
            format!("all packed services of a plan together may be {MOST} bytes of JSON; these are more")
        }
        _ => format!("{kind}; this is not all of it, or not intact"),
    })
}
