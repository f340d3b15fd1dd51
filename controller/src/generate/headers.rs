//! What collectors of spans are told with them, as the mesh configuration says it.

use meltemi_proxy::plan::check_header;
use serde_json::Value;

/// The most that a plan takes of them, and of their bytes.
const MOST: usize = 16;
const MOST_BYTES: usize = 8 << 10;

/// Headers of a collector: their names and values.
pub(super) type Headers = Vec<(String, String)>;

/// The headers of a list that can be in force, and why each other cannot, by its place.
pub(super) fn headers(list: Option<&Value>) -> (Headers, Vec<(usize, String)>) {
    let mut headers = Headers::new();
    let mut others = Vec::new();
    for (at, header) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        match one(header, &headers) {
            Ok(header) => headers.push(header),
            Err(why) => others.push((at, why)),
        }
    }
    (headers, others)
}

/// A header that goes with others.
fn one(header: &Value, others: &[(String, String)]) -> Result<(String, String), String> {
    let text = |field: &str| header[field].as_str().unwrap_or_default();
    if !text("envName").is_empty() {
        return Err("envName is of istiod's own environment; write value".to_owned());
    }
    let (name, value) = (text("name").to_ascii_lowercase(), text("value"));
    check_header(&name, value)?;
    if others.iter().any(|(known, _)| *known == name) {
        return Err(format!("{name} is there already"));
    }
    let bytes = others.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if others.len() >= MOST || bytes + name.len() + value.len() > MOST_BYTES {
        return Err(format!("there are more than {MOST}, or more than {MOST_BYTES} bytes of them"));
    }
    Ok((name, value.to_owned()))
}
