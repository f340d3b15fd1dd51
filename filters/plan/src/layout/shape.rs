//! Headers, lengths and parts.
use meltemi_codecs::layout::{Coding, Form, Length, Part, Place, Shape, Size};

use super::fields::Fields;
use super::numbers::{coding, fixed, header_number, offset};
use crate::check::name;
use crate::error::{Path, Result, fail};
use crate::raw;

/// The most parts of a frame.
const MOST_PARTS: usize = 16;

/// The most that is added to a length.
const MOST_ADDED: i64 = 1 << 16;

/// What is said of a shape.
pub(super) struct Given<'a> {
    pub path: &'a Path<'a>,
    pub header: Option<u32>,
    pub length: Option<&'a raw::Length>,
    pub parts: &'a [raw::Part],
    pub is_varint: bool,
}

/// A length that is a varint: where it is, and what is to be added.
pub(super) fn varint(path: &Path<'_>, raw: &raw::Layout, magic: usize) -> Result<Option<(usize, i64)>> {
    let Some(length) = raw.length.as_ref().filter(|length| length.coding == "varint") else {
        return Ok(None);
    };
    let path = path.key("length");
    let at = offset(&path.key("at"), length.at)?;
    if at != magic {
        return fail(&path.key("at"), format!("a varint is the first field after the magic, at {magic}"));
    }
    Ok(Some((at, added(&path, length)?)))
}

fn added(path: &Path<'_>, raw: &raw::Length) -> Result<i64> {
    match raw.plus {
        plus if plus.abs() <= MOST_ADDED => Ok(plus),
        plus => fail(
            &path.key("plus"),
            format!("{plus} is out of bounds; write {} to {MOST_ADDED}", MOST_ADDED.saturating_neg()),
        ),
    }
}

fn length(path: &Path<'_>, raw: &raw::Length) -> Result<Length> {
    let coding = fixed(&path.key("as"), &raw.coding)?;
    Ok(Length { number: header_number(&path.key("at"), raw.at, coding)?, plus: added(path, raw)? })
}

/// The parts; with `ends`, something else says where the last one ends.
pub(super) fn parts(path: &Path<'_>, raw: &[raw::Part], ends: bool) -> Result<Vec<Part>> {
    if raw.len() > MOST_PARTS {
        return fail(
            path,
            format!("{} parts; at most {MOST_PARTS} are read, and the last may hold what follows", raw.len()),
        );
    }
    let mut parts: Vec<Part> = Vec::new();
    for (number, raw) in raw.iter().enumerate() {
        let path = &path.index(number);
        name(&path.key("name"), "the name of a part", &raw.name)?;
        if parts.iter().any(|part| part.name == raw.name) {
            return fail(
                &path.key("name"),
                format!("{:?} is the name of another part already; choose another", raw.name),
            );
        }
        if let Some(part) = parts.last().filter(|part| part.size == Size::Rest) {
            let message =
                format!("the part before it, {:?}, goes to the frame's end; give that a length", part.name);
            return fail(path, message);
        }
        let size = match (raw.bytes, &raw.length, &raw.prefix) {
            (Some(bytes), None, None) => Size::Bytes(offset(&path.key("bytes"), bytes)?),
            (None, Some(raw), None) => Size::Header(length(&path.key("length"), raw)?),
            (None, None, Some(text)) => Size::Prefix(coding(&path.key("prefix"), text)?),
            (None, None, None) if ends => Size::Rest,
            (None, None, None) => {
                let message = "nothing says where it ends; write \"bytes\", \"length\" or \"prefix\", or the frame's \"length\"";
                return fail(path, message);
            }
            _ => return fail(path, "more than one length; keep one of \"bytes\", \"length\", \"prefix\""),
        };
        parts.push(Part { name: raw.name.clone(), size, form: form(path, raw)? });
    }
    Ok(parts)
}

fn form(path: &Path<'_>, raw: &raw::Part) -> Result<Form> {
    let of = |key: &str, given: bool, forms: &[raw::Form]| match given && !forms.contains(&raw.form) {
        true => fail(&path.key(key), "means nothing for this form; remove it"),
        false => Ok(()),
    };
    of("map", raw.map.is_some(), &[raw::Form::Protobuf])?;
    of("separator", raw.separator.is_some(), &[raw::Form::Pairs])?;
    of("equals", raw.equals.is_some(), &[raw::Form::Pairs])?;
    of("tag", raw.tag.is_some(), &[raw::Form::Tlv])?;
    of("size", raw.size.is_some(), &[raw::Form::Map, raw::Form::Tlv])?;
    let text = |key: &str, given: &Option<String>, default: &str| match given.as_deref() {
        Some("") => fail(&path.key(key), "is empty; write what is between the two"),
        given => Ok(given.unwrap_or(default).to_owned()),
    };
    let number = |key: &str, given: &Option<String>, default| {
        given.as_deref().map_or(Ok(default), |text| coding(&path.key(key), text))
    };
    Ok(match raw.form {
        raw::Form::Bytes => Form::Bytes,
        raw::Form::Text => Form::Text,
        raw::Form::Json => Form::Json,
        raw::Form::Protobuf => match raw.map {
            Some(0) | Some(0x2000_0000..) => {
                return fail(&path.key("map"), "is no number of a field; write 1 to 536870911");
            }
            map => Form::Protobuf { map },
        },
        raw::Form::Pairs => Form::Pairs {
            separator: text("separator", &raw.separator, "&")?,
            equals: text("equals", &raw.equals, "=")?,
        },
        raw::Form::Map => Form::Map { size: number("size", &raw.size, Coding::Big(4))? },
        raw::Form::Tlv => Form::Tlv {
            tag: number("tag", &raw.tag, Coding::Big(1))?,
            size: number("size", &raw.size, Coding::Big(1))?,
        },
    })
}

/// The shape of frames whose other fields are noted.
pub(super) fn shape(given: &Given<'_>, parts: Vec<Part>, fields: &mut Fields) -> Result<Shape> {
    let path = given.path;
    let of_frame = given.length.map(|raw| length(&path.key("length"), raw)).transpose()?;
    if let Some(length) = of_frame {
        fields.note(&path.key("length"), length.number.at(), length.number.end())?;
    }
    for (number, part) in parts.iter().enumerate() {
        let Size::Header(length) = part.size else { continue };
        let path = path.key("parts");
        let path = path.index(number);
        fields.note(&path.key("length"), length.number.at(), length.number.end())?;
    }
    if of_frame.is_none() && !given.is_varint && given.parts.is_empty() {
        let message = "nothing says how long a frame is; write it, or parts that have a length each";
        return fail(&path.key("length"), message);
    }
    let header = given.header.map(|header| offset(&path.key("header"), header)).transpose()?;
    let header = fields.header(&path.key("header"), header)?;
    if header == 0
        && !given.is_varint
        && of_frame.is_none()
        && !parts.iter().any(|part| matches!(part.size, Size::Prefix(_)))
    {
        return fail(&path.key("header"), "frames of this layout may be empty; write a header");
    }
    Ok(Shape { header, length: of_frame, parts })
}

/// Whether answers have the parts that `places` are in, at the same place among them.
pub(super) fn same_parts<'a>(
    path: &Path<'_>,
    answers: &Shape,
    requests: &Shape,
    places: impl Iterator<Item = &'a Place>,
) -> Result<()> {
    for place in places {
        let Place::Protobuf { part, .. } = place else { continue };
        let (Some(wanted), found) = (requests.parts.get(*part), answers.parts.get(*part)) else { continue };
        if found.is_none_or(|found| found.name != wanted.name || found.form != wanted.form) {
            let message = format!(
                "answers need the part {:?} where requests have it: ids and statuses are in it",
                wanted.name
            );
            return fail(path, message);
        }
        if let Some(found) = found {
            can_grow(path, found)?;
        }
    }
    Ok(())
}

/// Whether a part that holds an id can say that it is longer.
pub(super) fn can_grow(path: &Path<'_>, part: &Part) -> Result<()> {
    match part.size {
        Size::Header(_) | Size::Rest => Ok(()),
        Size::Bytes(_) | Size::Prefix(_) => {
            let name = format!("{:?}", part.name);
            let mend = ", which must be in the header; write \"length\" for the part";
            fail(path, ["another id changes the length of ", &name, mend].concat())
        }
    }
}

/// Whether lengths can say that a frame with another id is shorter.
pub(super) fn can_shrink(path: &Path<'_>, shape: &Shape, varint: Option<(usize, i64)>) -> Result<()> {
    let header = i64::try_from(shape.header).unwrap_or(i64::MAX);
    let of_frame = shape.length.map(|length| length.plus).or(varint.map(|(_, plus)| plus));
    if of_frame.is_some_and(|plus| plus > header) {
        let path = path.key("length");
        let message = format!(
            "is more than the header's {header} bytes, and another id may leave fewer; write what the length leaves out"
        );
        return fail(&path.key("plus"), message);
    }
    for (number, part) in shape.parts.iter().enumerate() {
        if matches!(part.size, Size::Header(length) if length.plus > 0) {
            let path = path.key("parts");
            let path = path.index(number);
            return fail(
                &path.key("length"),
                "another id may leave fewer bytes than \"plus\" adds; declare the first of them as a part",
            );
        }
    }
    Ok(())
}
