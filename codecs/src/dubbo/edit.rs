use super::header::{HESSIAN2, Header};
use super::response::Content;
use super::{request, response, status};
use crate::edit::{Fate, Pass, grown};
use crate::hessian::{END, Fault, MAP, Map, Marks, Reader, SHORT, Value, write_short, write_text};
use crate::words::is_ascii;
use crate::{Edit, Error, Place, Placed};

/// Where the id is in a header, and where it ends.
const ID: (usize, usize) = (4, 12);

/// The attachments that say how many milliseconds a client waits: what is left of it, which servers count down, and all.
pub(super) const TIMES: [&str; 2] = ["_TO", "timeout"];

/// Appends `frame`, changed as `edit` says.
pub(super) fn rewrite(
    header: &Header,
    frame: &[u8],
    edit: &Edit<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
    let frame = frame.get(..len).unwrap_or(frame);
    let id = edit.id.unwrap_or(header.id).to_be_bytes();
    let (Some(front), Some(rest)) = (frame.get(..ID.0), frame.get(ID.1..)) else {
        return Err(Error::Malformed { what: "header", offset: frame.len() });
    };
    let start = out.len();
    if edit.keeps_attachments() && edit.time.is_none() {
        out.extend_from_slice(front);
        out.extend_from_slice(&id);
        out.extend_from_slice(rest);
        return Ok(());
    }
    let mut reader = Reader::default();
    let Some(map) = attachments(header, frame, edit, &mut reader)? else {
        return rewrite(header, frame, &Edit { id: edit.id, ..Edit::default() }, out);
    };
    // The new length is known last.
    out.extend_from_slice(front);
    out.extend_from_slice(&id);
    out.extend_from_slice(&[0; 4]);
    let body = header.body(frame);
    out.extend_from_slice(body.get(..body.len().saturating_sub(map.len())).unwrap_or_default());
    let written = write_map(map, frame.len(), edit, &mut reader, out).and_then(|()| set_length(start, out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// An attachment with a name in ASCII, and room for a value; empty if either is long.
pub(super) fn entry(name: &str, len: usize) -> Vec<u8> {
    let mut entry = Vec::new();
    if name.len().max(len) <= SHORT {
        write_short(&mut entry, name.as_bytes());
        write_short(&mut entry, &vec![b'0'; len]);
    }
    entry
}

/// Appends `frame` with that id, and with an attachment where it goes: the room for its value. Otherwise nothing was appended.
pub(super) fn place<'a>(
    frame: &[u8],
    id: u64,
    attachment: &Placed<'_>,
    out: &'a mut Vec<u8>,
) -> Option<&'a mut [u8]> {
    let Placed { place, entry, len } = *attachment;
    let start = out.len();
    frame.get(..Header::LEN)?;
    let at = match place {
        // As many bytes are as many units.
        Place::Over { at, len: known } if known == len && is_ascii(frame.get(at..)?.get(..len)?) => {
            out.extend_from_slice(frame);
            at
        }
        Place::Before(at) if entry.len() > len => {
            let (before, after) = frame.split_at_checked(at)?;
            let (&END, after) = after.split_first()? else { return None };
            out.reserve(frame.len().saturating_add(entry.len()));
            out.extend_from_slice(before);
            out.extend_from_slice(entry);
            out.push(END);
            if !after.is_empty() {
                out.extend_from_slice(after);
            }
            if set_length(start, out).is_err() {
                out.truncate(start);
                return None;
            }
            at.saturating_add(entry.len()).saturating_sub(len)
        }
        _ => return None,
    };
    let frame = out.get_mut(start..)?;
    frame.get_mut(ID.0..ID.1)?.copy_from_slice(&id.to_be_bytes());
    frame.get_mut(at..)?.get_mut(..len)
}

/// The frame's bytes from its attachments on, empty when it ends without; `None` when nothing is to be changed.
fn attachments<'a>(
    header: &Header,
    frame: &'a [u8],
    edit: &Edit<'_>,
    reader: &mut Reader,
) -> Result<Option<&'a [u8]>, Error> {
    if header.serialization() != HESSIAN2 || header.is_event() {
        return Err(Error::Unsupported { what: "attachments of this serialization", offset: 2 });
    }
    let body = header.body(frame);
    let found = if header.is_request() {
        request::attachments(reader, body)
    } else {
        match Content::read(HESSIAN2, body) {
            Some(Content { answer, attachments: true }) if header.status == status::OK => {
                response::attachments(answer, reader, body)
            }
            // Whether the client could read attachments that the server did not send is not known.
            _ if edit.only_removes() => return Ok(None),
            _ => {
                let what = "attachments of a response without any";
                return Err(Error::Unsupported { what, offset: Header::LEN });
            }
        }
    };
    match found {
        Ok((rest, ())) => Ok(Some(rest)),
        Err(error) => Err(Fault::at(error, frame.len())),
    }
}

/// Appends the map at the front of `input`, whose last byte is before offset `end` of the frame, changed, and what
/// follows it. Entries that stay are copied as they are: numbers in them refer to things by order, not by place, so
/// that they hold as long as nothing that they count is taken away.
fn write_map(
    input: &[u8],
    end: usize,
    edit: &Edit<'_>,
    reader: &mut Reader,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let at = |error| Fault::at(error, end);
    let mut pass = Pass::new(edit);
    let opened = if input.is_empty() { None } else { Some(Map::open(reader, input).map_err(at)?) };
    let Some((entries, Some(mut map))) = opened else {
        if edit.only_removes() {
            out.extend_from_slice(input);
            return Ok(());
        }
        out.push(MAP);
        write_rest(&mut pass, out);
        // What followed null, if anything did.
        out.extend_from_slice(input.get(1..).unwrap_or_default());
        return Ok(());
    };
    let start = input.len().saturating_sub(entries.len());
    out.extend_from_slice(input.get(..start).unwrap_or_default());
    // What was defined where the first entry that defines something was taken away.
    let mut lost: Option<Marks> = None;
    while let Some(entry) = map.next(reader).map_err(at)? {
        let value = match &entry.value {
            Value::Text(value) => Some(&**value),
            _ => None,
        };
        let key = entry.key.as_deref();
        let fate = key.map_or(Fate::Stays, |key| pass.meet(key, value.is_some()));
        if fate == Fate::Goes {
            if lost.is_none() && reader.marks() != entry.before {
                lost = Some(entry.before);
            }
        } else if let (Fate::Grows(more), Some(key), Some(value)) = (fate, key, value) {
            let grown = grown(value.as_bytes(), more);
            write_text(out, key);
            // Two texts and a comma are one.
            write_text(out, core::str::from_utf8(&grown).unwrap_or(more));
        } else if lost.is_some_and(|lost| !entry.uses.within(lost)) {
            let left = map.rest().len().saturating_add(entry.bytes.len());
            let what = "removal of what other attachments refer to";
            return Err(Error::Unsupported { what, offset: end.saturating_sub(left) });
        } else if let (Some(key), Some(millis)) = (entry.key.as_deref(), edit.millis())
            && TIMES.contains(&key)
        {
            write_text(out, key);
            write_text(out, &millis.to_string());
        } else {
            out.extend_from_slice(entry.bytes);
        }
    }
    write_rest(&mut pass, out);
    out.extend_from_slice(map.rest());
    Ok(())
}

fn write_rest(pass: &mut Pass<'_>, out: &mut Vec<u8>) {
    while let Some((name, value)) = pass.next() {
        write_text(out, name);
        write_text(out, value);
    }
    out.push(END);
}

/// Writes the length of the frame that starts at `start` into its header.
fn set_length(start: usize, out: &mut [u8]) -> Result<(), Error> {
    let frame = out.get_mut(start..).unwrap_or_default();
    let size = frame.len().saturating_sub(Header::LEN);
    let limit = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
    match (i32::try_from(size), frame.get_mut(ID.1..Header::LEN)) {
        (Ok(length), Some(room)) => {
            room.copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => Err(Error::TooLarge { what: "frame", size: u64::try_from(size).unwrap_or(u64::MAX), limit }),
    }
}
