//! From header lists to what they say, RFC 9113 section 8, and the names agreed on with the Envoy configuration.

use base64ct::{Base64, Encoding};

use crate::Accept;
use crate::hpack::Fields;

/// The cluster that a CONNECT stream goes to.
pub(crate) const CLUSTER: &str = "x-meltemi-cluster";
/// The client's address.
pub(crate) const PEER: &str = "x-meltemi-peer";
/// The endpoint to go to, or that failed: base64 of `ip:port`, as Envoy's stateful session filter has it.
pub(crate) const SESSION: &str = "x-meltemi-session";
/// The endpoint that Envoy chose, in clear.
pub(crate) const HOST: &str = "x-meltemi-host";
/// Milliseconds by which Envoy's fault filter delays the answer.
pub(crate) const DELAY: &str = "x-envoy-fault-delay-request";

/// The authority of streams to the connection manager that are the filter's own.
pub(crate) const AUTHORITY: &str = "meltemi";
/// The route of alarms.
pub(crate) const ALARM_PATH: &str = "/alarm";

/// A message that is malformed: an error of its stream (section 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a request head says.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) is_connect: bool,
    pub(crate) accept: Accept,
}

/// What a response head says.
#[derive(Debug, Default)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) endpoint: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

pub(crate) fn request(fields: &Fields) -> Result<RequestHead, Malformed> {
    let mut head = RequestHead::default();
    let (mut method, mut authority) = (None, None);
    let mut regular = false;
    for (name, value) in fields.iter() {
        check(name, value, &mut regular)?;
        let slot = match name {
            b":method" => &mut method,
            b":authority" => &mut authority,
            // Envoy's extended CONNECT has these; they say nothing that matters here.
            b":scheme" | b":path" | b":protocol" => continue,
            _ if regular => {
                let (name, value) = (text(name), text(value));
                match name.as_str() {
                    CLUSTER => head.accept.cluster = Some(value),
                    PEER => head.accept.peer = Some(value),
                    _ => head.accept.headers.push((name, value)),
                }
                continue;
            }
            _ => return Err(Malformed),
        };
        if slot.replace(text(value)).is_some() {
            return Err(Malformed);
        }
    }
    head.is_connect = method.ok_or(Malformed)? == "CONNECT";
    head.accept.authority = authority.unwrap_or_default();
    if head.is_connect && head.accept.authority.is_empty() {
        return Err(Malformed);
    }
    Ok(head)
}

pub(crate) fn response(fields: &Fields) -> Result<ResponseHead, Malformed> {
    let mut head = ResponseHead::default();
    let (mut status, mut session) = (None, None);
    let mut regular = false;
    for (name, value) in fields.iter() {
        check(name, value, &mut regular)?;
        if !regular {
            if name != b":status" || status.replace(self::status(value)?).is_some() {
                return Err(Malformed);
            }
            continue;
        }
        let (name, value) = (text(name), text(value));
        match name.as_str() {
            HOST => head.endpoint = Some(value),
            SESSION => session = decode_endpoint(&value),
            _ => head.headers.push((name, value)),
        }
    }
    head.status = status.ok_or(Malformed)?;
    // When a connection failed, the session names the endpoint that did; otherwise both name the one that was chosen.
    if head.status >= 300 || head.endpoint.is_none() {
        head.endpoint = session.or(head.endpoint);
    }
    Ok(head)
}

pub(crate) fn trailers(fields: &Fields) -> Result<Vec<(String, String)>, Malformed> {
    let mut regular = false;
    fields
        .iter()
        .map(|(name, value)| {
            check(name, value, &mut regular)?;
            regular.then(|| (text(name), text(value))).ok_or(Malformed)
        })
        .collect()
}

/// The rules of section 8.2.1 for names and values, and the order of section 8.3.
fn check(name: &[u8], value: &[u8], regular: &mut bool) -> Result<(), Malformed> {
    let (pseudo, rest) = match name.split_first() {
        Some((b':', rest)) => (true, rest),
        Some(_) => (false, name),
        None => return Err(Malformed),
    };
    let name_is_valid =
        rest.iter().all(|byte| matches!(byte, 0x21..=0x7e) && !matches!(byte, b':' | b'A'..=b'Z'));
    let value_is_valid = !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    if !name_is_valid || !value_is_valid || (pseudo && *regular) {
        return Err(Malformed);
    }
    *regular |= !pseudo;
    Ok(())
}

fn status(value: &[u8]) -> Result<u16, Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
    let status = text.parse().map_err(|_| Malformed)?;
    if text.len() == 3 && (100..=999).contains(&status) { Ok(status) } else { Err(Malformed) }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn encode_endpoint(endpoint: &str) -> String {
    Base64::encode_string(endpoint.as_bytes())
}

fn decode_endpoint(session: &str) -> Option<String> {
    String::from_utf8(Base64::decode_vec(session).ok()?).ok()
}
