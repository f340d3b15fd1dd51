use super::cursor::{Read, Stop, malformed};
use super::info::{self, Key};
use super::protocol::{Begin, CALL, MOST_NAME, ONE_WAY};
use super::transport::{Envelope, Transport};
use super::{outcome, walk, zlib};
use crate::{Error, Frame, Kind, Peer};

/// Finds the frame at the front of `input`.
pub(super) fn split(from: Peer, input: &[u8], most: usize) -> Read<Frame> {
    let envelope = Envelope::read(input)?;
    if envelope.is_compressed {
        return split_compressed(&envelope, input, most);
    }
    let (message, _) = match envelope.message(input) {
        // More than the front is needed in the end.
        Err(Stop::Need(needed)) => {
            return Err(Stop::Need(envelope.len.filter(|len| *len <= most).unwrap_or(needed)));
        }
        read => read?,
    };
    let len = match envelope.len {
        None => walk::find_end(message.protocol, input, message.body, most)?,
        Some(len) => whole(input, len, most)?,
    };
    let frame = input.get(..len).unwrap_or(input);
    if envelope.len.is_some() {
        walk::check_end(message.protocol, frame, message.body)?;
    }
    let kind = kind(from, &envelope, &message, frame, frame);
    Ok(Frame { len, head: message.body, kind, id: envelope.id.unwrap_or(message.id).into() })
}

/// The message is inflated once to be checked. What it inflates to meets the limit of a frame.
fn split_compressed(envelope: &Envelope, input: &[u8], most: usize) -> Read<Frame> {
    let len = whole(input, envelope.len.unwrap_or_default(), most)?;
    let compressed = input.get(envelope.payload..len).unwrap_or_default();
    let inflated = zlib::inflate(compressed, most, envelope.payload).map_err(Stop::Bad)?;
    let message = match envelope.inflated_message(&inflated) {
        Err(Stop::Need(_)) => return malformed("inflated message", envelope.payload),
        read => read?,
    };
    walk::check_end(message.protocol, &inflated, message.body)?;
    let kind = kind(Peer::Client, envelope, &message, input, &inflated);
    // Enough of it to inflate the name again, or else an answer has none.
    let head = len.min(envelope.payload.saturating_add(2 * MOST_NAME));
    Ok(Frame { len, head, kind, id: envelope.id.unwrap_or(message.id).into() })
}

/// The length of a frame that has come as a whole.
fn whole(input: &[u8], len: usize, most: usize) -> Read<usize> {
    if len > most {
        let size = u64::try_from(len).unwrap_or(u64::MAX);
        return Err(Stop::Bad(Error::TooLarge { what: "frame", size, limit: most }));
    }
    if len > input.len() { Err(Stop::Need(len)) } else { Ok(len) }
}

/// What a message is, which was read from `bytes`.
fn kind(from: Peer, envelope: &Envelope, message: &Begin, frame: &[u8], bytes: &[u8]) -> Kind {
    match message.kind {
        CALL => Kind::Request,
        ONE_WAY => Kind::OneWay,
        _ if from == Peer::Server && is_stopping(envelope, frame) => match envelope.id {
            Some(0) => Kind::Drain,
            _ => Kind::Last(outcome::of(message, bytes)),
        },
        _ => Kind::Response(outcome::of(message, bytes)),
    }
}

/// Whether this is how a Kitex server says that it is about to close the connection, be it that it stops (in a frame of its
/// own where it multiplexes, else in its answers), or that the request was none it could read on from.
fn is_stopping(envelope: &Envelope, frame: &[u8]) -> bool {
    let mut is_stopping = false;
    if matches!(envelope.transport, Transport::TtHeader { .. }) {
        let _ = info::each(envelope.headers(frame), envelope.transport, &mut |info| {
            is_stopping |= info.key == Key::Text(info::STOPPING) && !info.value.is_empty();
        });
    }
    is_stopping
}

/// Reads what a frame that has come as a whole says: there is nothing to wait for.
pub(super) fn read<T>(read: Read<T>, frame: &[u8]) -> Result<T, Error> {
    read.map_err(|stop| match stop {
        Stop::Bad(error) => error,
        Stop::Need(_) => Error::Malformed { what: "frame", offset: frame.len() },
    })
}
