use super::header::{EVENT, FASTJSON2, HESSIAN2, Header, REQUEST};
use super::{fastjson2, json, status};
use crate::hessian::{self, NULL};
use crate::{Kind, Peer};

/// The event by which a server that is going away asks for no new calls.
const READ_ONLY: &str = "R";
/// The event by which a server takes that back.
const WRITABLE: &str = "W";

/// What an event request is. A heartbeat carries null; the serializations that cannot write null carry something else.
pub(super) fn kind(header: &Header, from: Peer, body: &[u8]) -> Kind {
    let text = match header.serialization() {
        HESSIAN2 => match hessian::optional_text(body) {
            Ok((_, text)) => text,
            Err(_) if body.is_empty() => None,
            Err(_) => return Kind::Event,
        },
        FASTJSON2 => fastjson2::Fields::new(body).text(),
        id if json::is_lines(id) => json::Lines::new(body).text(),
        _ => None,
    };
    match text.as_deref() {
        Some(READ_ONLY) if from == Peer::Server => Kind::Drain,
        Some(READ_ONLY | WRITABLE) => Kind::Event,
        Some(_) if header.serialization() == HESSIAN2 => Kind::Event,
        _ if header.is_two_way() => Kind::HeartbeatRequest,
        _ => Kind::HeartbeatResponse,
    }
}

/// Appends the answer to a heartbeat: null, in the serialization of the heartbeat.
pub(super) fn write_reply(header: &Header, heartbeat: &[u8], out: &mut Vec<u8>) {
    // A heartbeat's own body is how its sender writes null.
    let body = match header.serialization() {
        HESSIAN2 => &[NULL],
        _ => header.body(heartbeat),
    };
    let length = u32::try_from(body.len()).unwrap_or_default();
    Header { flags: EVENT | header.serialization(), status: status::OK, id: header.id, length }.write(out);
    out.extend_from_slice(body);
}

/// Appends the read-only event as Dubbo's servers write it.
pub(super) fn write_read_only(out: &mut Vec<u8>) {
    Header { flags: REQUEST | EVENT | HESSIAN2, status: 0, id: 0, length: 2 }.write(out);
    hessian::write_text(out, READ_ONLY);
}
