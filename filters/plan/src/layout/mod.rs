//! From a layout as it is written to the table that a codec goes by: everything that contradicts itself is found here.
mod attributes;
mod fields;
mod numbers;
mod shape;
mod template;

use meltemi_codecs::layout::{
    Attribute, Coding, ErrorReply, Fault, Form, FrameKind, Kinds, Layout, Number, Part, Place, Shape,
    Statuses,
};
use meltemi_codecs::{Failure, Sharing};

use crate::check::name;
use crate::error::{Path, Result, fail};
use crate::{Table, raw};
use fields::Fields;
use numbers::{hex, place};
use shape::shape;

/// The most bytes of a magic.
const LONGEST_MAGIC: usize = 8;

/// Checks a layout and makes it a codec.
///
/// `path` is where it is written.
pub(crate) fn layout(path: &Path<'_>, called: &str, raw: &raw::Layout) -> Result<Layout> {
    name(path, "the name of a protocol", called)?;
    let magic = magic(path, raw)?;
    let mut fields = Fields::default();
    if let Some((number, _)) = magic {
        fields.note(&path.key("magic"), number.at(), number.end())?;
    }
    let varint = shape::varint(path, raw, magic.map_or(0, |(number, _)| number.end()))?;
    if varint.is_some() {
        // What has a place is counted from its end.
        fields = Fields::default();
    }
    let requests = shape::Given {
        path,
        header: raw.header,
        length: raw.length.as_ref().filter(|_| varint.is_none()),
        parts: &raw.parts,
        is_varint: varint.is_some(),
    };
    let parts = shape::parts(&path.key("parts"), &raw.parts, varint.is_some() || raw.length.is_some())?;

    let mut ids = Vec::new();
    if let Some(id) = &raw.id {
        ids.push(place(&path.key("id"), id.into(), &parts)?);
    }
    for (number, copy) in raw.id_copies.iter().enumerate() {
        let path = path.key("idCopies");
        let path = path.index(number);
        if raw.id.is_none() {
            return fail(&path, "a copy of an id that is nowhere; write \"id\" first");
        }
        ids.push(place(&path, copy.into(), &parts)?);
    }
    for (number, id) in ids.iter().enumerate() {
        let copies = path.key("idCopies");
        let at = match number.checked_sub(1) {
            None => path.key("id"),
            Some(number) => copies.index(number),
        };
        fields.note_place(&at, id)?;
    }
    ids_can_grow(path, &ids, &parts)?;
    let kinds = raw.kind.as_ref().map(|raw| kinds(&path.key("kind"), raw, &parts)).transpose()?;
    if let Some(kinds) = &kinds {
        fields.note_place(&path.key("kind"), &kinds.place)?;
    }
    let statuses = statuses(&path.key("status"), raw.status.as_ref(), &parts)?;
    let attributes = attributes::attributes(&path.key("attributes"), &raw.attributes, &parts)?;
    let mut of_requests = fields.clone();
    for (attribute, (name, _)) in attributes.iter().zip(raw.attributes.iter()) {
        let attributes = path.key("attributes");
        of_requests.reach(&attributes.key(name), attributes::end(attribute));
    }
    let is_told = kinds.as_ref().is_some_and(|kinds| matches!(kinds.place, Place::Header(_)));
    let mut of_answers = fields;
    let status_places = [("", &statuses.place), ("service", &statuses.service)];
    for (key, place) in status_places.into_iter().filter_map(|(key, place)| Some((key, place.as_ref()?))) {
        let status = path.key("status");
        let at = if key.is_empty() { status } else { status.key(key) };
        of_answers.note_place(&at, place)?;
        if raw.response.is_none() {
            of_requests.note_place(&at, place)?;
        }
    }
    let shape = shape(&requests, parts, &mut of_requests)?;
    if ids.iter().any(|id| matches!(id, Place::Protobuf { .. })) {
        shape::can_shrink(path, &shape, varint)?;
    }
    let response = raw.response.as_ref().map(|raw| {
        let path = path.key("response");
        if !is_told || kinds.as_ref().is_none_or(|kinds| !kinds.has(FrameKind::Response)) {
            return fail(&path, "nothing in the header tells answers from requests; write \"kind\" with \"at\", \"as\" and \"response\"");
        }
        if varint.is_some() && raw.length.is_some() {
            return fail(&path.key("length"), "the length of every frame is a varint already; remove this");
        }
        let parts = shape::parts(&path.key("parts"), &raw.parts, varint.is_some() || raw.length.is_some())?;
        let given = shape::Given {
            path: &path,
            header: raw.header,
            length: raw.length.as_ref(),
            parts: &raw.parts,
            is_varint: varint.is_some(),
        };
        let made = shape::shape(&given, parts, &mut of_answers)?;
        shape::same_parts(&path.key("parts"), &made, &shape, ids.iter().chain(&statuses.place).chain(&statuses.service))?;
        Ok(made)
    });
    let response = response.transpose()?;
    let error_reply =
        raw.error_reply.as_ref().map(|raw| error_reply(&path.key("errorReply"), raw)).transpose()?;
    let frame = |key: &str, text: &Option<String>| {
        text.as_ref().map_or(Ok(Vec::new()), |text| template::template(&path.key(key), text, false))
    };
    let (heartbeat_reply, drain_notice) =
        (frame("heartbeatReply", &raw.heartbeat_reply)?, frame("drainNotice", &raw.drain_notice)?);
    let sharing = match raw.sharing {
        Some(raw::Sharing::Shared) if ids.is_empty() => {
            let message = "answers that come in any order are known by an id; write \"id\", or \"in-order\"";
            return fail(&path.key("sharing"), message);
        }
        Some(raw::Sharing::Shared) => Sharing::Shared,
        Some(raw::Sharing::InOrder) => Sharing::InOrder,
        Some(raw::Sharing::Exclusive) => Sharing::Exclusive,
        None if ids.is_empty() => Sharing::Exclusive,
        None => Sharing::Shared,
    };
    let operation = |key: &str, named: &Option<String>| {
        operation(&path.key(key), named.as_deref(), key, &attributes, &shape)
    };
    let (service, method) = (operation("service", &raw.service)?, operation("method", &raw.method)?);
    let layout = Layout {
        name: called.to_owned(),
        sharing,
        magic,
        varint,
        shape,
        response,
        ids,
        kinds,
        statuses,
        attributes,
        service,
        method,
        error_reply,
        heartbeat_reply,
        drain_notice,
        fast: None,
    };
    let layout = layout.compiled();
    proven(path, &layout)?;
    Ok(layout)
}

/// Whether the layout reads the frames that it makes.
fn proven(path: &Path<'_>, layout: &Layout) -> Result<()> {
    let reply = path.key("errorReply");
    let (path, what, mend) = match layout.check() {
        Ok(()) => return Ok(()),
        Err(Fault::ErrorReply(what)) => {
            (reply.key("frame"), what, "an answer with a status that is no success")
        }
        Err(Fault::HeartbeatReply(what)) => (path.key("heartbeatReply"), what, "the answer to a heartbeat"),
        Err(Fault::DrainNotice(what)) => {
            (path.key("drainNotice"), what, "a frame of the kind \"drain\", with the id 0")
        }
    };
    fail(&path, format!("{what}; write {mend}, each field where the layout has it"))
}

fn magic(path: &Path<'_>, raw: &raw::Layout) -> Result<Option<(Number, u64)>> {
    let at = numbers::offset(&path.key("magicAt"), raw.magic_at)?;
    let Some(text) = &raw.magic else {
        return match at {
            0 => Ok(None),
            _ => fail(&path.key("magicAt"), "there is no \"magic\"; write it, or leave this out"),
        };
    };
    let path = path.key("magic");
    let bytes = hex(&path, text)?;
    match u8::try_from(bytes.len()) {
        Ok(0) => fail(&path, "no bytes; leave it out if frames have none"),
        Ok(width) if bytes.len() <= LONGEST_MAGIC => {
            let magic = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            Ok(Some((numbers::header_number(&path, raw.magic_at, Coding::Big(width))?, magic)))
        }
        _ => fail(&path, format!("{} bytes; write the first {LONGEST_MAGIC} at most", bytes.len())),
    }
}

/// Whether the part that holds ids can say another length.
fn ids_can_grow(path: &Path<'_>, ids: &[Place], parts: &[Part]) -> Result<()> {
    let mut known = None;
    for id in ids {
        let Place::Protobuf { part, .. } = id else { continue };
        if known.is_some_and(|known| known != *part) {
            let message = "ids in several parts cannot all be changed; keep those of one part";
            return fail(&path.key("idCopies"), message);
        }
        known = Some(*part);
        if let Some(part) = parts.get(*part) {
            shape::can_grow(&path.key("id"), part)?;
        }
    }
    Ok(())
}

fn kinds(path: &Path<'_>, raw: &raw::Kind, parts: &[Part]) -> Result<Kinds> {
    let place = place(path, raw.into(), parts)?;
    let mask = raw.mask.map_or(u64::MAX, u64::from);
    let mut values: Vec<(u64, FrameKind)> = Vec::new();
    let given = [
        ("request", raw.request, FrameKind::Request),
        ("oneWay", raw.one_way, FrameKind::OneWay),
        ("response", raw.response, FrameKind::Response),
        ("heartbeat", raw.heartbeat, FrameKind::Heartbeat),
        ("heartbeatReply", raw.heartbeat_reply, FrameKind::HeartbeatReply),
        ("drain", raw.drain, FrameKind::Drain),
    ];
    for (key, value, kind) in given {
        let Some(value) = value.map(u64::from) else { continue };
        if value & mask != value {
            return fail(
                &path.key(key),
                format!("{value} has bits that are not in \"mask\", and so never occurs"),
            );
        }
        if let Place::Header(number) = &place
            && value > number.max()
        {
            return fail(
                &path.key(key),
                format!("{value} does not fit the field; its largest is {}", number.max()),
            );
        }
        if values.iter().any(|(known, _)| *known == value) {
            return fail(
                &path.key(key),
                format!("{value} is the value of another kind already; keep one of the two"),
            );
        }
        values.push((value, kind));
    }
    let otherwise = match raw.otherwise {
        raw::Otherwise::Direction => None,
        raw::Otherwise::Request => Some(FrameKind::Request),
        raw::Otherwise::OneWay => Some(FrameKind::OneWay),
        raw::Otherwise::Response => Some(FrameKind::Response),
        raw::Otherwise::HeartbeatReply => Some(FrameKind::HeartbeatReply),
        raw::Otherwise::Event => Some(FrameKind::Event),
    };
    if values.is_empty() {
        return fail(path, "no value has a meaning; write one, such as \"heartbeat\", or leave \"kind\" out");
    }
    Ok(Kinds { place, mask, values, otherwise })
}

fn statuses(path: &Path<'_>, raw: Option<&raw::ResponseStatus>, parts: &[Part]) -> Result<Statuses> {
    let Some(raw) = raw else { return Ok(Statuses { success: vec![0], ..Statuses::default() }) };
    let success: Vec<_> = raw.success.as_deref().unwrap_or(&[0]).iter().copied().map(u64::from).collect();
    let exceptions: Vec<_> = raw.exception.iter().copied().map(u64::from).collect();
    if success.is_empty() {
        return fail(&path.key("success"), "no status is a success; write those that are");
    }
    if let Some(both) = exceptions.iter().find(|status| success.contains(status)) {
        return fail(
            &path.key("exception"),
            format!("{both} is a success already; keep it in one of the two"),
        );
    }
    let service = raw.service.as_ref();
    Ok(Statuses {
        place: Some(place(path, raw.into(), parts)?),
        success,
        exceptions,
        service: service.map(|raw| place(&path.key("service"), raw.into(), parts)).transpose()?,
        names: names(&path.key("names"), &raw.names)?,
    })
}

/// Names of numbers, each with another number.
fn names<N: From<u32> + PartialEq>(path: &Path<'_>, raw: &Table<u32>) -> Result<Vec<(N, String)>> {
    let mut names: Vec<(N, String)> = Vec::new();
    for (name, number) in raw.iter() {
        let number_of = N::from(*number);
        if let Some((_, other)) = names.iter().find(|(known, _)| *known == number_of) {
            return fail(
                &path.key(name),
                format!("{number} is called {other:?} already; keep one of the two"),
            );
        }
        names.push((number_of, name.to_owned()));
    }
    Ok(names)
}

/// The attribute that metrics name calls by.
fn operation(
    path: &Path<'_>,
    given: Option<&str>,
    default: &str,
    attributes: &[Attribute],
    shape: &Shape,
) -> Result<String> {
    let Some(given) = given else { return Ok(default.to_owned()) };
    let is_open = |form: &Form| {
        matches!(form, Form::Json | Form::Pairs { .. } | Form::Map { .. } | Form::Protobuf { map: Some(_) })
    };
    let is_known = attributes.iter().any(|attribute| attribute.name == given)
        || shape
            .parts
            .iter()
            .any(|part| is_open(&part.form) || part.form == Form::Text && part.name == given);
    match is_known {
        true => Ok(given.to_owned()),
        false => fail(path, format!("{given:?} is no attribute; declare it, or name another")),
    }
}

fn error_reply(path: &Path<'_>, raw: &raw::ErrorReply) -> Result<ErrorReply> {
    let given = [
        (raw.bad_request, &[Failure::BadRequest][..]),
        (raw.no_route, &[Failure::NoRoute]),
        (raw.no_endpoint, &[Failure::NoEndpoint]),
        (raw.connection_lost, &[Failure::ConnectionLost, Failure::BadResponse]),
        (raw.timeout, &[Failure::Timeout]),
        (raw.overloaded, &[Failure::Overloaded, Failure::RateLimited]),
        (raw.denied, &[Failure::Denied]),
    ];
    let statuses = given.into_iter().filter_map(|(status, failures)| Some((u64::from(status?), failures)));
    let statuses =
        statuses.flat_map(|(status, failures)| failures.iter().map(move |failure| (*failure, status)));
    Ok(ErrorReply {
        frame: template::template(&path.key("frame"), &raw.frame, true)?,
        statuses: statuses.collect(),
        otherwise: raw.status.into(),
    })
}
