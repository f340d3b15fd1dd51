use meltemi_codecs::dubbo::{Header, header, status};
use meltemi_codecs::{Codec, Depth, Dubbo, Error, Frame, Head, Kind, Peer};

use super::record::{Code, Record};

/// Who sent the frame at the front of `input`, by its own flags. A server's events have the form of requests, so they
/// pass for a client's: an event all the same.
pub fn sender(input: &[u8]) -> Peer {
    match Header::parse(input) {
        Ok(Some(header)) if header.is_request() => Peer::Client,
        _ => Peer::Server,
    }
}

/// What the complete frame `bytes` says, and what of it cannot be read.
pub fn record(codec: &Dubbo, frame: &Frame, bytes: &[u8]) -> (Record, Option<Error>) {
    let mut head = Head::new();
    let header = match Header::parse(bytes) {
        Ok(Some(header)) => header,
        Ok(None) => return (Record::default(), None),
        Err(error) => return (Record::default(), Some(error)),
    };
    let (kind, outcome) = match frame.kind {
        Kind::Request => ("request", codec.head(bytes, Depth::Attachments, &mut head)),
        Kind::OneWay => ("one-way", codec.head(bytes, Depth::Attachments, &mut head)),
        Kind::Response(_) => ("response", codec.response_head(bytes, &mut head)),
        Kind::HeartbeatRequest => ("heartbeat-request", Ok(())),
        // One that wants no answer.
        Kind::HeartbeatResponse if header.is_request() => ("heartbeat-request", Ok(())),
        Kind::HeartbeatResponse => ("heartbeat-response", Ok(())),
        _ => ("event", Ok(())),
    };
    let code = |name: Option<&'static str>, number: u8| Code::new(name, number.into());
    let status = || code(status::name(header.status.into()), header.status);
    let serialization = header.serialization();
    let record = Record {
        kind,
        id: frame.id,
        status: (!header.is_request()).then(status),
        length: frame.len,
        serialization: code(header::serialization_name(serialization), serialization),
        attributes: head.attributes().filter(|(name, _)| *name != "serialization").collect(),
        attachments: head.attachments().collect(),
    };
    (record, outcome.err())
}
