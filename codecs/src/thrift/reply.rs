use super::edit::set_lengths;
use super::protocol::{EXCEPTION, Protocol, write_begin};
use super::transport::{COMPACT_ID, Envelope, FRONT, THEADER_MAGIC, TTHEADER_MAGIC, Transport};
use super::walk::{write_int, write_text};

/// Appends the answer to `request`, of which the front is there, as a `TApplicationException`: in the transport and the
/// protocol of the request, with its name and its ids.
pub(super) fn write(request: &[u8], status: u32, text: &str, out: &mut Vec<u8>) {
    let Ok(envelope) = Envelope::read(request) else { return };
    let read = envelope.message(request);
    let (protocol, id, name) = match &read {
        Ok((message, bytes)) => {
            (message.protocol, message.id, bytes.get(message.name.clone()).unwrap_or_default())
        }
        // Clients know an answer by its id.
        Err(_) if envelope.is_compressed => {
            (envelope.protocol.unwrap_or(Protocol::Binary), envelope.id.unwrap_or_default(), &[][..])
        }
        Err(_) => return,
    };
    let start = out.len();
    let kitex = request.get(FRONT).copied();
    write_envelope(envelope.transport, protocol, envelope.id.unwrap_or_default(), kitex, false, out);
    let payload = out.len();
    write_begin(out, protocol, EXCEPTION, name, id);
    write_text(out, protocol, 1, 0, text.as_bytes());
    write_int(out, protocol, 2, 1, status);
    out.push(0);
    if set_lengths(envelope.transport, start, payload, out).is_err() {
        out.truncate(start);
    }
}

/// Appends what precedes a message, without headers and with lengths to be set. `kitex` is how Kitex's header numbers the
/// protocol, 0 unless it is known better.
pub(super) fn write_envelope(
    transport: Transport,
    protocol: Protocol,
    id: u32,
    kitex: Option<u8>,
    is_compressed: bool,
    out: &mut Vec<u8>,
) {
    let (magic, number) = match (transport, protocol) {
        (Transport::Unframed, _) => return,
        (Transport::Framed, _) => return out.extend_from_slice(&[0; 4]),
        (Transport::THeader, Protocol::Compact) => (THEADER_MAGIC, COMPACT_ID),
        (Transport::THeader, _) => (THEADER_MAGIC, 0),
        (Transport::TtHeader { .. }, _) => (TTHEADER_MAGIC, kitex.unwrap_or_default()),
    };
    out.extend_from_slice(&[0, 0, 0, 0, magic[0], magic[1], 0, 0]);
    out.extend_from_slice(&id.to_be_bytes());
    // One word: the protocol, how many transforms, and which.
    let transform = u8::from(is_compressed);
    out.extend_from_slice(&[0, 1, number, transform, transform, 0]);
    if transport == (Transport::TtHeader { framed: true }) {
        out.extend_from_slice(&[0; 4]);
    }
}
