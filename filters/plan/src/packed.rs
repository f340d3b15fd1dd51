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

/// The JSON of the services of `document`, a plan, that are written packed.
pub(super) fn unpack(document: &mut Json<'_>) -> Result<Vec<Vec<u8>>, PlanError> {
    let mut left = MOST;
    let unpacked = packed(document).map(|(authority, service)| {
        let Json::String(text) = service else { return Ok(Vec::new()) };
        let json = inflate(text, left).map_err(|message| error(authority, message))?;
        left = left.saturating_sub(json.len());
        Ok(json)
    });
    unpacked.collect()
}

/// Puts the objects of which [`unpack`] has made this JSON in the place of the strings that they are written by.
pub(super) fn put<'a>(document: &mut Json<'a>, unpacked: &'a [Vec<u8>]) -> Result<(), PlanError> {
    for ((authority, service), json) in packed(document).zip(unpacked) {
        let object = serde_json::from_slice(json);
        *service = object.map_err(|why| error(authority, format!("what is packed is no JSON: {why}")))?;
    }
    Ok(())
}

/// The services that are strings, and their names.
fn packed<'a, 'b>(document: &'b mut Json<'a>) -> impl Iterator<Item = (&'b str, &'b mut Json<'a>)> {
    let named = document.member("services").into_iter().flat_map(Json::members);
    named.filter(|(_, service)| matches!(service, Json::String(_)))
}

fn error(authority: &str, message: String) -> PlanError {
    PlanError::at(&Path::Root.key("services").key(authority), message)
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
