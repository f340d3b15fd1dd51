use std::borrow::Cow;

use super::front::{Front, front};
use super::header::{self, FASTJSON2, HESSIAN2, Header};
use super::verify::{Check, is_trimmed};
use super::{descriptor, fastjson2, fastjson2::Unread, generic, json, misread};
use crate::hessian::{
    Entry, Fault, MAP, Map, Parsed, Reader, Value, check_optional_text, optional_text, short_text,
    skip_optional_text,
};
use crate::{Depth, Error, Head, Search};

/// Strings at the front of a body.
const FRONT: usize = 5;

/// Reads the attributes of a request.
pub(super) fn read(header: &Header, frame: &[u8], depth: Depth, head: &mut Head) -> Result<(), Error> {
    let id = header.serialization();
    let body = header.body(frame);
    let end = Header::LEN.saturating_add(body.len());
    if depth == Depth::Operation && id == HESSIAN2 {
        return operation(body, head).map(|_| ()).map_err(|error| Fault::at(error, end));
    }
    match header::serialization_name(id) {
        Some(name) => head.push("serialization", name),
        None => head.push("serialization", &id.to_string()),
    }
    match id {
        HESSIAN2 => hessian(body, depth, head, end).map_err(|error| Fault::at(error, end)),
        FASTJSON2 => match fastjson2::read(body, depth, head) {
            Err(Unread::TooMany) => {
                Err(Error::Unsupported { what: "number of attachments", offset: Header::LEN })
            }
            read => verified(depth, read.is_ok()),
        },
        id if json::is_lines(id) => {
            json::read(body, head);
            verified(depth, false)
        }
        _ => verified(depth, false),
    }
}

/// Adds what names the call, and the attachments that are looked for, of a request in Hessian 2.
pub(super) fn find(
    header: &Header,
    frame: &[u8],
    search: &mut Search<'_>,
    head: &mut Head,
) -> Result<(), Error> {
    let body = header.body(frame);
    let end = Header::LEN.saturating_add(body.len());
    find_in(body, search, head, end).map_err(|error| Fault::at(error, end))
}

fn find_in(body: &[u8], search: &mut Search<'_>, head: &mut Head, end: usize) -> Result<(), nom::Err<Fault>> {
    let mut reader = Reader::default();
    let types = operation(body, head)?;
    let (attachments, ()) = skip_to_attachments(&mut reader, types)?;
    if search.is_silent(attachments) {
        head.set_room(end.saturating_sub(1));
        return Ok(());
    }
    push_attachments(&mut reader, attachments, Some(search), head, end)
}

/// Reads the attributes of [`Depth::Head`] of the front of a body; whether the whole body has no others.
pub(super) fn front_is_known(header: &Header, body: &[u8], head: &mut Head) -> bool {
    if header.serialization() != HESSIAN2 {
        return false;
    }
    head.push("serialization", "hessian2");
    let is_read = hessian(body, Depth::Head, head, 0).is_ok();
    let is_generic = matches!(head.get("method"), Some("$invoke" | "$invokeAsync"));
    is_read && (!is_generic || head.get("genericMethod").is_some())
}

/// What is missing is an error where that matters.
fn verified(depth: Depth, is_whole: bool) -> Result<(), Error> {
    match depth == Depth::Verified && !is_whole {
        true => Err(Error::Unsupported { what: "request to verify", offset: Header::LEN }),
        false => Ok(()),
    }
}

/// Reads what names the call, passes over the two versions between, and gives what follows.
fn operation<'a>(body: &'a [u8], head: &mut Head) -> Result<&'a [u8], nom::Err<Fault>> {
    let mut rest = body;
    for name in ["interface", "method"] {
        let (after, ()) = skip_optional_text(rest)?;
        let (after, text) = optional_text(after)?;
        if let Some(text) = &text {
            head.push(name, text);
        }
        rest = after;
    }
    Ok(rest)
}

/// Reads a body that ends at offset `end` of the frame.
fn hessian(body: &[u8], depth: Depth, head: &mut Head, end: usize) -> Result<(), nom::Err<Fault>> {
    let mut rest = body;
    let mut next = || {
        let (after, text) = optional_text(rest)?;
        rest = after;
        Ok(text)
    };
    let front = front(&mut next, head)?;
    if depth == Depth::Verified {
        check_front(body)?;
    }
    if front.is_generic() {
        match optional_text(rest) {
            Ok((_, Some(method))) if depth != Depth::Verified || is_trimmed(&method) => {
                head.push("genericMethod", &method);
            }
            _ if depth == Depth::Verified => return doubtful(rest, "method of a generic call"),
            _ => {}
        }
    }
    if depth <= Depth::Head {
        return Ok(());
    }
    if depth == Depth::Verified {
        return verify(&front, rest, head);
    }
    let mut reader = Reader::default();
    let (rest, ()) = skip_arguments(front.arguments(), &mut reader, rest)?;
    push_attachments(&mut reader, rest, None, head, end)
}

/// Refuses strings at the front of a body in which not every reader sees the same text.
fn check_front(body: &[u8]) -> Result<(), nom::Err<Fault>> {
    let mut rest = body;
    for _ in 0..FRONT {
        (rest, ()) = check_optional_text(rest)?;
    }
    Ok(())
}

fn doubtful(input: &[u8], what: &'static str) -> Result<(), nom::Err<Fault>> {
    Fault::unsupported(input, what).map(|(_, ())| ())
}

/// Adds the attachments behind the arguments at `input`, if there is no doubt of what a server makes of all that.
fn verify(front: &Front<'_>, input: &[u8], head: &mut Head) -> Result<(), nom::Err<Fault>> {
    let Some(mut check) = Check::new(front) else {
        return doubtful(input, "request whose service or method is in doubt");
    };
    let has_types = front.is_generic() && front.arguments() > Some(1);
    if has_types && !generic::names_one(input) {
        return doubtful(input, "method of a generic call");
    }
    let mut reader = Reader::strict();
    let (attachments, ()) = skip_arguments(front.arguments(), &mut reader, input)?;
    let rest = verify_attachments(&mut check, &mut reader, attachments, head)?;
    if !rest.is_empty() {
        return doubtful(rest, "bytes after the attachments");
    }
    if !check.is_sure() {
        return doubtful(rest, "attachments in doubt");
    }
    match misread::is_certain(front, check.service(), input) {
        true => Ok(()),
        false => doubtful(input, "arguments that may be read as attachments"),
    }
}

/// Adds the attachments that leave no doubt, and gives what follows them.
fn verify_attachments<'a>(
    check: &mut Check<'_>,
    reader: &mut Reader,
    input: &'a [u8],
    head: &mut Head,
) -> Result<&'a [u8], nom::Err<Fault>> {
    if input.is_empty() {
        return Ok(input);
    }
    // Other maps may take a name for another.
    if let Some((b'M', name)) = input.split_first()
        && !matches!(optional_text(name), Ok((_, Some(name))) if MAPS.contains(&&*name))
    {
        doubtful(input, "kind of map")?;
    }
    let mut map = match Map::open(reader, input)? {
        (_, Some(map)) => map,
        (rest, None) => return Ok(rest),
    };
    while let Some(entry) = map.next(reader)? {
        let Entry { key: Some(name), value, .. } = entry else {
            doubtful(map.rest(), "name of an attachment")?;
            continue;
        };
        // How an object ends is for its class to say.
        if !reader.is_plain_since(entry.before, entry.uses) {
            doubtful(map.rest(), "object as an attachment")?;
        }
        let value = Value::into_text(value);
        if !check.admit(head, &name, value.as_deref()) {
            doubtful(map.rest(), "attachment in doubt")?;
        }
    }
    Ok(map.rest())
}

/// The classes of maps that attachments are in.
const MAPS: [&str; 5] = [
    "java.util.HashMap",
    "java.util.LinkedHashMap",
    "java.util.TreeMap",
    "java.util.Hashtable",
    "java.util.concurrent.ConcurrentHashMap",
];

/// Finds the attachments of a request in Hessian 2.
pub(super) fn attachments<'a>(reader: &mut Reader, body: &'a [u8]) -> Parsed<'a, ()> {
    let mut rest = body;
    for _ in 1..FRONT {
        (rest, ()) = skip_optional_text(rest)?;
    }
    skip_to_attachments(reader, rest)
}

/// Passes over the types of parameters, and the arguments.
fn skip_to_attachments<'a>(reader: &mut Reader, input: &'a [u8]) -> Parsed<'a, ()> {
    if let Some((types, rest)) = short_text(input) {
        return skip_arguments(descriptor::count(types), reader, rest);
    }
    let (rest, types) = optional_text(input)?;
    skip_arguments(types.and_then(|types| descriptor::count(types.as_bytes())), reader, rest)
}

fn skip_arguments<'a>(count: Option<usize>, reader: &mut Reader, input: &'a [u8]) -> Parsed<'a, ()> {
    let Some(count) = count else {
        return Fault::malformed(input, "parameter types");
    };
    let mut rest = input;
    for _ in 0..count {
        (rest, ()) = reader.skip(rest)?;
    }
    Ok((rest, ()))
}

/// Adds the entries of the map at `input` that are text, numbers or truth values: all, or those that are looked for. What
/// follows the most that a head holds is an error. No map at all is an empty one. The input ends at offset `end` of the frame; 0 if
/// their places in it do not matter.
pub(super) fn push_attachments(
    reader: &mut Reader,
    input: &[u8],
    mut search: Option<&mut Search<'_>>,
    head: &mut Head,
    end: usize,
) -> Result<(), nom::Err<Fault>> {
    if input.is_empty() {
        return Ok(());
    }
    let (_, Some(mut map)) = Map::open(reader, input)? else {
        return Ok(());
    };
    let (mut left, mut is_all) = (Head::MOST_ATTACHMENTS, true);
    loop {
        if let Some(search) = &search {
            map.pass(search);
        }
        let Some(entry) = map.next(reader)? else { break };
        left = match left.checked_sub(1) {
            Some(left) => left,
            None => return Fault::unsupported(map.rest(), "number of attachments").map(|(_, ())| ()),
        };
        if let (Some(search), Some(key)) = (&search, entry.key.as_deref())
            && !search.has(key.as_bytes())
        {
            continue;
        }
        let at = match &entry.value {
            Value::Text(Cow::Borrowed(text)) => {
                end.saturating_sub(map.rest().len()).saturating_sub(text.len())
            }
            _ => 0,
        };
        is_all &= match (entry.key, Value::into_text(entry.value)) {
            (Some(key), Some(value)) => head.push_attachment_at(&key, &value, at),
            _ => false,
        };
    }
    if is_all {
        head.set_room(end.saturating_sub(map.rest().len()).saturating_sub(1));
    }
    // Texts refer to nothing that stands before them.
    let is_text = left == Head::MOST_ATTACHMENTS && input.first() == Some(&MAP) && map.rest().is_empty();
    if let Some(search) = search.as_mut().filter(|_| is_text) {
        search.keep_silent(input);
    }
    Ok(())
}
