use super::{Dubbo, Header, header, status};
use crate::inspect::{Reading, Value};
use crate::{Codec, Depth, Error, Frame, Head, Kind, Peer};

/// Who sent the frame at the front of `input`, by its own flags. A server's events have the form of requests, so they
/// pass for a client's: an event all the same.
pub(super) fn sender(input: &[u8]) -> Peer {
    match Header::parse(input) {
        Ok(Some(header)) if header.is_request() => Peer::Client,
        _ => Peer::Server,
    }
}

/// What the complete frame `bytes` says, and what of it cannot be read.
pub(super) fn read(frame: &Frame, bytes: &[u8]) -> (Reading, Option<Error>) {
    let mut reading = Reading::new(&Dubbo, frame);
    let header = match Header::parse(bytes) {
        Ok(Some(header)) => header,
        Ok(None) => return (reading, None),
        Err(error) => return (reading, Some(error)),
    };
    let mut head = Head::new();
    let outcome = match frame.kind {
        Kind::Request | Kind::OneWay => Dubbo.head(bytes, Depth::Attachments, &mut head),
        Kind::Response(_) => Dubbo.response_head(bytes, &mut head),
        _ => Ok(()),
    };
    if header.is_request() && frame.kind == Kind::HeartbeatResponse {
        // One that wants no answer.
        reading.kind = "heartbeat-request";
    }
    let number = header.status;
    reading.status = (!header.is_request()).then(|| Value::new(status::name(number.into()), number));
    let serialization = header.serialization();
    let name = header::serialization_name(serialization);
    reading.fields.push(("serialization", Value::new(name, serialization)));
    reading.add(&head);
    reading.attributes.retain(|(name, _)| name != "serialization");
    (reading, outcome.err())
}
