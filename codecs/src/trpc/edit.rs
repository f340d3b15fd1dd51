use super::header::{Header, Type};
use super::message::{self, field};
use crate::edit::Pass;
use crate::protobuf::{
    Field, Fields, enclose, set_number, write_bytes, write_entry, write_fields, write_number,
};
use crate::{Edit, Error};

/// Appends `frame`, changed as `edit` says. Some of it may be appended in vain.
pub(super) fn rewrite(
    header: &Header,
    frame: &[u8],
    edit: &Edit<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    let (message, rest) = header.parts(frame);
    out.extend_from_slice(frame.get(..Header::LEN).unwrap_or_default());
    let edited = if edit.keeps_attachments() { None } else { edited(header, message, edit)? };
    let message = edited.as_deref().unwrap_or(message);
    let mut timed = Vec::new();
    let message = match edit.millis() {
        Some(millis) => {
            set_number(message, &[field::TIMEOUT], millis.into(), &mut timed)?;
            &timed
        }
        None => message,
    };
    let (header_id, id) = match edit.id {
        Some(id) => message::ids(id),
        None => (header.id, 0),
    };
    if header.kind == Type::Unary && edit.id.is_some() {
        set_number(message, &[field::REQUEST_ID], id.into(), out)?;
    } else {
        out.extend_from_slice(message);
    }
    let message_len = out.len().saturating_sub(start).saturating_sub(Header::LEN);
    out.extend_from_slice(rest);
    let missing = header.len().saturating_sub(frame.len());
    // Frames of a stream say 0, or the length of all.
    let has_message = header.kind == Type::Unary || header.message != 0;
    finish(start, if has_message { message_len } else { 0 }, missing, header_id, out)
}

/// The message of a frame with other entries; `None` where it stays as it is.
fn edited(header: &Header, message: &[u8], edit: &Edit<'_>) -> Result<Option<Vec<u8>>, Error> {
    let fields = Fields::at(message, Header::LEN);
    let mut out = Vec::new();
    let pass = &mut Pass::new(edit);
    // Messages that come twice are put together: what is set follows all that is there already.
    let last = |number| {
        let found =
            fields.clone().flatten().filter(|field| field.number == number && field.value.bytes().is_some());
        found.last().map(|field| field.offset)
    };
    match (header.kind, last(field::REQUEST_META)) {
        (Type::Unary, _) => {
            let is_request = last(field::FUNC).is_some();
            let number = if is_request { field::TRANS_INFO } else { field::RESPONSE_TRANS_INFO };
            write_entries(fields, number, pass, true, &mut out)?;
        }
        (Type::Init, Some(last)) => {
            let number = field::TRANS_INFO.saturating_sub(field::STREAM);
            for field in fields {
                let field = field?;
                match field.fields() {
                    Some(meta) if field.number == field::REQUEST_META => {
                        let start = out.len();
                        write_entries(meta, number, pass, field.offset == last, &mut out)?;
                        enclose(field::REQUEST_META, start, &mut out);
                    }
                    _ => out.extend_from_slice(field.bytes),
                }
            }
        }
        _ if edit.only_removes() => return Ok(None),
        _ => return Err(Error::Unsupported { what: "entries of this frame", offset: 2 }),
    }
    Ok(Some(out))
}

/// Appends a message whose entries have this number, changed, and after the `last` of them what is new.
fn write_entries(
    fields: Fields<'_>,
    number: u32,
    pass: &mut Pass<'_>,
    last: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut write = |field: &Field<'_>, out: &mut Vec<u8>| {
        pass.write(field, field.number == number, out);
    };
    write_fields(fields, &mut write, out)?;
    if last {
        while let Some((key, value)) = pass.next() {
            write_entry(number, key, value.as_bytes(), out);
        }
    }
    Ok(())
}

/// Appends a frame of this kind that says an error, to the request `frame`: a response, the answer to one that opens a
/// stream, or what resets a stream.
pub(super) fn write_error(
    header: &Header,
    kind: Type,
    frame: &[u8],
    code: u32,
    text: &str,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let is_unary = kind == Type::Unary;
    let Some(id) = (if is_unary { message::id(header, frame) } else { Some(header.id.into()) }) else {
        return;
    };
    let (header_id, id) = message::ids(id);
    let (byte, ret, error) = match kind {
        Type::Unary => (0, 4, 6),
        Type::Init => (1, 1, 2),
        _ => (4, 2, 3),
    };
    out.extend_from_slice(&[0x09, 0x30, u8::from(!is_unary), byte]);
    out.extend_from_slice(&[0; 12]);
    let content = out.len();
    match kind {
        Type::Unary => write_number(field::REQUEST_ID, id.into(), out),
        Type::Init => {}
        _ => write_number(1, field::RESET.into(), out),
    }
    write_number(ret, code.into(), out);
    write_bytes(error, text.as_bytes(), out);
    if kind == Type::Init {
        enclose(field::RESPONSE_META, content, out);
    }
    let message_len = out.len().saturating_sub(start).saturating_sub(Header::LEN);
    if finish(start, message_len, 0, header_id, out).is_err() {
        out.truncate(start);
    }
}

/// Writes the lengths and the id into the header of the frame that starts at `start`, to which `missing` bytes are to come.
fn finish(start: usize, message_len: usize, missing: usize, id: u32, out: &mut [u8]) -> Result<(), Error> {
    let frame = out.get_mut(start..).unwrap_or_default();
    let limit = usize::from(u16::MAX);
    let Ok(message) = u16::try_from(message_len) else {
        return Err(Error::TooLarge { what: "header", size: message_len as u64, limit });
    };
    let size = frame.len().saturating_add(missing);
    let Ok(len) = u32::try_from(size) else {
        return Err(Error::TooLarge { what: "frame", size: size as u64, limit: u32::MAX as usize });
    };
    let bytes = len.to_be_bytes().into_iter().chain(message.to_be_bytes()).chain(id.to_be_bytes());
    for (place, byte) in frame.iter_mut().skip(4).zip(bytes) {
        *place = byte;
    }
    Ok(())
}
