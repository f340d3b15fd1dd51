//! Frames that the proxy makes, as they are written: `4352 01 01 {id:u32} {rest:u32} {text}`.
use meltemi_codecs::layout::{Coding, Piece};

use super::numbers::{coding, hex};
use crate::error::{Path, Result, fail};

/// The longest one, as it is written.
const LONGEST: usize = 4096;

/// How deep groups may lie in one another.
const DEEPEST: usize = 8;

/// The most lengths of what follows: each is known when all of that is written.
const MOST_RESTS: usize = 8;

/// Reads a frame; whether it may have a status and a text is `says`.
pub(super) fn template(path: &Path<'_>, text: &str, says: bool) -> Result<Vec<Piece>> {
    if text.len() > LONGEST {
        return fail(path, format!("{} bytes; at most {LONGEST} are read", text.len()));
    }
    let mut rest = text;
    let pieces = pieces(path, &mut rest, says, 0)?;
    let rests = rests(&pieces);
    if rests > MOST_RESTS {
        return fail(path, format!("has {rests} times {{rest}}; write at most {MOST_RESTS}"));
    }
    match pieces.is_empty() {
        true => fail(path, "is empty; write the frame, or leave it out"),
        false => Ok(pieces),
    }
}

fn rests(pieces: &[Piece]) -> usize {
    let of_piece = |piece: &Piece| match piece {
        Piece::Rest(..) => 1,
        Piece::Group(inner) => rests(inner),
        _ => 0,
    };
    pieces.iter().map(of_piece).sum()
}

fn pieces(path: &Path<'_>, rest: &mut &str, says: bool, depth: usize) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    loop {
        *rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return if depth == 0 { Ok(pieces) } else { fail(path, "a \"(\" is not closed; write \")\"") };
        };
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        match first {
            ')' if depth > 0 => {
                *rest = after;
                return Ok(pieces);
            }
            '(' if depth < DEEPEST => {
                *rest = after;
                pieces.push(Piece::Group(self::pieces(path, rest, says, depth.saturating_add(1))?));
            }
            '{' => match after.split_once('}') {
                Some((inside, after)) => {
                    pieces.push(named(path, inside.trim(), says)?);
                    *rest = after;
                }
                None => return fail(path, "a \"{\" is not closed; write \"}\""),
            },
            '"' => match after.split_once('"') {
                Some((inside, after)) => {
                    pieces.push(Piece::Bytes(inside.as_bytes().to_vec()));
                    *rest = after;
                }
                None => return fail(path, "a text is not closed; write '\"'"),
            },
            _ => {
                let end = rest.find(|char: char| !char.is_ascii_hexdigit()).unwrap_or(rest.len());
                let (digits, after) = rest.split_at_checked(end).unwrap_or_default();
                if digits.is_empty() {
                    return fail(
                        path,
                        format!(
                            "{first:?} begins nothing that a frame has; write bytes in hexadecimal, \"text\", {{...}} or (...)"
                        ),
                    );
                }
                pieces.push(Piece::Bytes(hex(path, digits)?));
                *rest = after;
            }
        }
    }
}

fn named(path: &Path<'_>, inside: &str, says: bool) -> Result<Piece> {
    let (what, form) = inside.split_once(':').unwrap_or((inside, ""));
    let sign = form.find(['+', '-']).unwrap_or(form.len());
    let (form, plus) = form.split_at_checked(sign).unwrap_or((form, ""));
    let plus = match plus {
        "" => Some(0),
        plus => plus.parse::<i64>().ok().filter(|plus| plus.abs() <= 1 << 16),
    };
    let number = || coding(path, form);
    match (what, plus) {
        ("id", Some(0)) => Ok(Piece::Id(number()?)),
        ("status", Some(0)) if says => Ok(Piece::Status(number()?)),
        ("text", Some(0)) if says && form.is_empty() => Ok(Piece::Text),
        ("rest", Some(plus)) => Ok(Piece::Rest(number()?, plus)),
        ("frame", Some(plus)) => match number()? {
            Coding::Varint => {
                fail(path, "the length of the whole frame cannot be a varint; write {rest:varint}")
            }
            coding => Ok(Piece::Frame(coding, plus)),
        },
        _ => {
            let known = if says { "{id:u32}, {status:u16}, {text}, " } else { "{id:u32}, " };
            fail(
                path,
                format!(
                    "{{{inside}}} is nothing that can be filled in; write {known}{{frame:u32}} or {{rest:u32-4}}"
                ),
            )
        }
    }
}
