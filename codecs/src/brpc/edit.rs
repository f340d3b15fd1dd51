use super::meta;
use super::meta::{Header, field, is_entry};
use crate::edit::Pass;
use crate::protobuf::{Field, enclose, set_number, write_bytes, write_entry, write_fields, write_number};
use crate::{Edit, Error};

/// Appends `frame`, changed as `edit` says. Some of it may be appended in vain.
pub(super) fn rewrite(
    header: &Header,
    frame: &[u8],
    edit: &Edit<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    Header::write(0, 0, out);
    let meta_start = out.len();
    let edited = if edit.keeps_attachments() { None } else { Some(edited(header, frame, edit)?) };
    let meta = edited.as_deref().unwrap_or_else(|| header.meta_bytes(frame));
    let mut timed = Vec::new();
    let meta = match edit.millis() {
        Some(millis) => {
            set_number(meta, &[field::REQUEST, meta::TIMEOUT], millis.into(), &mut timed)?;
            &timed
        }
        None => meta,
    };
    match edit.id {
        Some(id) => set_number(meta, &[field::CORRELATION_ID], id, out)?,
        None => out.extend_from_slice(meta),
    }
    let meta_len = out.len().saturating_sub(meta_start);
    out.extend_from_slice(header.payload(frame));
    finish(start, meta_len, header.payload_len(), out)
}

/// The meta of `frame` with other entries.
fn edited(header: &Header, frame: &[u8], edit: &Edit<'_>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let pass = &mut Pass::new(edit);
    // What is new follows all that is there already, in the one place or the other.
    let mut place = None;
    for field in header.meta(frame).flatten() {
        match (field.number, field.fields()) {
            (field::USER_FIELDS, _) => note(&field, pass),
            (field::REQUEST, Some(request)) => {
                for entry in request.flatten().filter(is_entry) {
                    place = Some(field.offset);
                    note(&entry, pass);
                }
            }
            _ => {}
        }
    }
    for field in header.meta(frame) {
        let field = field?;
        match (field.number, field.fields()) {
            (field::USER_FIELDS, _) => pass.write(&field, true, &mut out),
            (field::REQUEST, Some(request)) => {
                let start = out.len();
                let mut write = |field: &Field<'_>, out: &mut Vec<u8>| {
                    pass.write(field, is_entry(field), out);
                };
                write_fields(request, &mut write, &mut out)?;
                if place == Some(field.offset) {
                    write_rest(meta::REQUEST_ID, pass, &mut out);
                }
                enclose(field::REQUEST, start, &mut out);
            }
            _ => out.extend_from_slice(field.bytes),
        }
    }
    if place.is_none() {
        write_rest(field::USER_FIELDS, pass, &mut out);
    }
    Ok(out)
}

/// Notes that an entry is there.
fn note(field: &Field<'_>, pass: &mut Pass<'_>) {
    if let Some((key, _)) = field.entry() {
        pass.meet(key, true);
    }
}

fn write_rest(number: u32, pass: &mut Pass<'_>, out: &mut Vec<u8>) {
    while let Some((key, value)) = pass.next() {
        write_entry(number, key, value.as_bytes(), out);
    }
}

/// Appends a response that says an error.
pub(super) fn write_error(id: u64, code: u32, text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    Header::write(0, 0, out);
    let response = out.len();
    write_number(1, u64::from(code), out);
    write_bytes(2, text.as_bytes(), out);
    enclose(field::RESPONSE, response, out);
    write_number(field::CORRELATION_ID, id, out);
    let meta_len = out.len().saturating_sub(response);
    if finish(start, meta_len, 0, out).is_err() {
        out.truncate(start);
    }
}

/// Writes the lengths of the frame that starts at `start` into its header. Of the payload, not all may be there.
fn finish(start: usize, meta_len: usize, payload_len: u64, out: &mut [u8]) -> Result<(), Error> {
    let frame = out.get_mut(start..).unwrap_or_default();
    let size = payload_len.saturating_add(meta_len as u64);
    let too_large = || Error::TooLarge { what: "frame", size, limit: u32::MAX as usize };
    let (body, meta) = (u32::try_from(size), u32::try_from(meta_len));
    let (Ok(body), Ok(meta), Some(room)) = (body, meta, frame.get_mut(4..Header::LEN)) else {
        return Err(too_large());
    };
    for (place, byte) in room.iter_mut().zip(body.to_be_bytes().into_iter().chain(meta.to_be_bytes())) {
        *place = byte;
    }
    Ok(())
}
