use super::cursor::{Read, Stop, unsupported};
use super::protocol::write_id;
use super::transport::{Envelope, FRONT, ID, Transport};
use super::{info, zlib};
use crate::{Edit, Error};

/// Appends `frame`, changed as `edit` says. What was appended when that fails is to be taken back.
pub(super) fn rewrite(frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Read<()> {
    let envelope = Envelope::read(frame)?;
    let is_plain = edit.keeps_attachments() && edit.time.is_none();
    if !is_plain && !envelope.has_headers() {
        return unsupported("headers of this transport", 0);
    }
    let (message, _) = envelope.message(frame)?;
    let start = out.len();
    // Ids have 32 bits.
    let id = edit.id.map(|id| id as u32);
    out.extend_from_slice(frame.get(..envelope.infos.start).unwrap_or_default());
    if envelope.has_headers() {
        write_headers(&envelope, frame, edit, start, out)?;
        if let (Some(id), Some(room)) = (id, out.get_mut(start..).and_then(|frame| frame.get_mut(ID))) {
            room.copy_from_slice(&id.to_be_bytes());
        }
    }
    // Lengths, which are set last.
    out.extend_from_slice(frame.get(envelope.infos.end..envelope.payload).unwrap_or_default());
    let payload = out.len();
    let id = id.unwrap_or(message.id);
    if !envelope.is_compressed {
        out.extend_from_slice(frame.get(envelope.payload..message.id_at.start).unwrap_or_default());
        write_id(out, message.protocol, id);
        out.extend_from_slice(frame.get(message.id_at.end..).unwrap_or_default());
    } else if id == message.id {
        out.extend_from_slice(frame.get(envelope.payload..).unwrap_or_default());
    } else {
        // Its length met a limit when the frame was found.
        let compressed = frame.get(envelope.payload..).unwrap_or_default();
        let mut inflated = zlib::inflate(compressed, usize::MAX, envelope.payload).map_err(Stop::Bad)?;
        let mut written = Vec::with_capacity(5);
        write_id(&mut written, message.protocol, id);
        inflated.splice(message.id_at, written);
        zlib::store(&inflated, out);
    }
    set_lengths(envelope.transport, start, payload, out)
}

/// Appends the headers, and says in the front how many there are.
fn write_headers(
    envelope: &Envelope,
    frame: &[u8],
    edit: &Edit<'_>,
    start: usize,
    out: &mut Vec<u8>,
) -> Read<()> {
    let before = frame.get(envelope.infos.clone()).unwrap_or_default();
    let checksum = info::CHECKSUM.as_bytes();
    let is_stale = edit.id.is_some()
        && matches!(envelope.transport, Transport::TtHeader { .. })
        && before.windows(checksum.len()).any(|bytes| bytes == checksum);
    let is_plain = edit.keeps_attachments() && edit.time.is_none();
    if is_plain && !is_stale {
        out.extend_from_slice(before);
        return Ok(());
    }
    let at = out.len();
    let stale = is_stale.then_some(info::CHECKSUM);
    let written = info::write(envelope.headers(frame), envelope.transport, edit, stale, out);
    if written.is_err() && is_plain {
        // They cannot be read, but passed on.
        out.truncate(at);
        out.extend_from_slice(before);
        return Ok(());
    }
    written?;
    while !out.len().wrapping_sub(start).wrapping_sub(FRONT).is_multiple_of(4) {
        out.push(0);
    }
    let size = out.len().saturating_sub(start).saturating_sub(FRONT);
    let front = out.get_mut(start..).and_then(|frame| frame.get_mut(ID.end..FRONT));
    match (u16::try_from(size >> 2), front) {
        (Ok(words), Some(room)) => room.copy_from_slice(&words.to_be_bytes()),
        _ => return Err(too_large("headers", size, usize::from(u16::MAX) << 2)),
    }
    Ok(())
}

/// Writes the lengths of the frame that starts at `start`, and its message at `payload`.
pub(super) fn set_lengths(transport: Transport, start: usize, payload: usize, out: &mut [u8]) -> Read<()> {
    if transport == (Transport::TtHeader { framed: true }) {
        set_length(payload, out)?;
    }
    if transport != Transport::Unframed {
        set_length(start.saturating_add(4), out)?;
    }
    Ok(())
}

/// Writes the length of what begins at `at` before that.
fn set_length(at: usize, out: &mut [u8]) -> Read<()> {
    let size = out.len().saturating_sub(at);
    let room = out.get_mut(at.saturating_sub(4)..at);
    match (i32::try_from(size), room) {
        (Ok(length), Some(room)) => {
            room.copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => Err(too_large("frame", size, usize::try_from(i32::MAX).unwrap_or(usize::MAX))),
    }
}

fn too_large(what: &'static str, size: usize, limit: usize) -> Stop {
    Stop::Bad(Error::TooLarge { what, size: u64::try_from(size).unwrap_or(u64::MAX), limit })
}
