use meltemi_codecs::fuzz::{Choices, fuzz_codec, fuzz_silent};
use meltemi_codecs::{Codec, Layout, Peer};

use crate::raw::{
    self, Attribute, ErrorReply, Form, Kind, Length, Otherwise, Part, Place, Response, ResponseStatus,
};

/// Makes a layout of the first bytes of `data` and, if it is one, gives it the others; whether it is.
///
/// # Panics
///
/// When a layout breaks a promise of codecs.
pub fn fuzz_layout(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let raw = layout(&mut choices);
    let layout = match crate::layout("any", &raw) {
        Ok(layout) => layout,
        Err(error) => {
            assert!(!error.path.is_empty() && !error.message.is_empty(), "{error}");
            return false;
        }
    };
    let fuzz = if raw.error_reply.is_some() { fuzz_codec } else { fuzz_silent };
    fuzz(&layout, choices.0);
    // Bytes that the layout may like: its own frames, and the magic before others.
    let magic = raw.magic.iter().flat_map(|text| text.bytes()).collect::<Vec<_>>();
    let magic: Vec<u8> = magic
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let after_magic = [&magic, choices.0].concat();
    fuzz(&layout, &after_magic);
    // What makes it fast changes nothing.
    let plain = Layout { fast: None, ..layout.clone() };
    for (from, input) in
        [Peer::Client, Peer::Server].into_iter().flat_map(|from| [(from, choices.0), (from, &after_magic)])
    {
        assert_eq!(layout.split(from, input, 64), plain.split(from, input, 64), "{input:02x?}");
    }
    true
}

const CODINGS: [&str; 6] = ["u8", "u16", "u32", "u64", "u16le", "u32le"];

fn coding(choices: &mut Choices<'_>) -> String {
    choices.one_of(&CODINGS).to_owned()
}

fn perhaps<T>(choices: &mut Choices<'_>, make: impl FnOnce(&mut Choices<'_>) -> T) -> Option<T> {
    (choices.below(2) == 1).then(|| make(choices))
}

fn number(choices: &mut Choices<'_>) -> u32 {
    choices.below(20) as u32
}

fn length(choices: &mut Choices<'_>) -> Length {
    Length { at: number(choices), coding: coding(choices), plus: i64::from(choices.byte() as i8 / 8) }
}

fn field_path(choices: &mut Choices<'_>) -> String {
    choices.one_of(&["1", "2", "4", "2.1", "1.3.2"]).to_owned()
}

/// A place by its four fields.
fn place(choices: &mut Choices<'_>) -> (Option<u32>, Option<String>, Option<String>, Option<String>) {
    match choices.below(3) {
        0 => (None, None, Some("a".to_owned()), Some(field_path(choices))),
        _ => (Some(number(choices)), Some(coding(choices)), None, None),
    }
}

fn parts(choices: &mut Choices<'_>) -> Vec<Part> {
    let names = ["a", "b", "c"];
    let count = choices.below(4);
    names.iter().take(count).map(|name| part(choices, name)).collect()
}

fn part(choices: &mut Choices<'_>, name: &str) -> Part {
    let (mut bytes, mut of_header, mut prefix) = (None, None, None);
    match choices.below(5) {
        0 => bytes = Some(number(choices)),
        1 | 2 => of_header = Some(length(choices)),
        3 => prefix = Some(choices.one_of(&["u8", "u16le", "varint"]).to_owned()),
        _ => {}
    }
    let forms = [Form::Protobuf, Form::Bytes, Form::Text, Form::Json, Form::Pairs, Form::Map, Form::Tlv];
    let form = forms.get(choices.below(forms.len())).copied().unwrap_or_default();
    let size = matches!(form, Form::Map | Form::Tlv).then(|| "u8".to_owned());
    let map = (form == Form::Protobuf).then(|| number(choices));
    Part { name: name.to_owned(), bytes, length: of_header, prefix, form, size, map, ..Part::default() }
}

fn layout(choices: &mut Choices<'_>) -> raw::Layout {
    let (at, coding, part, path) = place(choices);
    let id = Place { at, coding, part, path };
    let copy = choices.below(4) == 1;
    let copies = if copy { vec![id_copy(choices)] } else { Vec::new() };
    let varint = choices.below(4) == 1;
    let mut of_frame = perhaps(choices, length);
    if varint {
        of_frame =
            Some(Length { at: 0, coding: "varint".to_owned(), plus: i64::from(choices.byte() as i8 / 8) });
    }
    let kind = perhaps(choices, |choices| {
        let (at, coding, part, path) = place(choices);
        let mut values = (0..6).map(|value| (choices.below(3) > 0).then_some(value));
        let mut next = || values.next().flatten();
        Kind {
            at,
            coding,
            part,
            path,
            request: next(),
            response: next(),
            one_way: next(),
            heartbeat: next(),
            heartbeat_reply: next(),
            drain: next(),
            otherwise: Otherwise::Direction,
            ..Kind::default()
        }
    });
    let status = perhaps(choices, |choices| {
        let (at, coding, part, path) = place(choices);
        ResponseStatus { at, coding, part, path, exception: vec![7], ..ResponseStatus::default() }
    });
    let attributes = ["x", "y"].iter().filter_map(|name| {
        perhaps(choices, |choices| {
            let (at, coding, part, path) = place(choices);
            ((*name).to_owned(), Attribute { at, coding, part, path, ..Attribute::default() })
        })
    });
    let attributes = attributes.collect();
    let response = (choices.below(4) == 1).then(|| Response {
        length: perhaps(choices, length),
        parts: parts(choices),
        ..Response::default()
    });
    let error_reply = (choices.below(8) == 1).then(|| ErrorReply {
        frame: "{rest:u32} {id:u32} 0000 {status:u16} {text}".to_owned(),
        status: 9,
        ..ErrorReply::default()
    });
    raw::Layout {
        magic: perhaps(choices, |choices| choices.one_of(&["00", "4142", "ff"]).to_owned()),
        header: perhaps(choices, |choices| choices.below(40) as u32),
        length: of_frame,
        parts: parts(choices),
        id: perhaps(choices, |_| id),
        id_copies: copies,
        kind,
        status,
        response,
        attributes,
        error_reply,
        ..raw::Layout::default()
    }
}

fn id_copy(choices: &mut Choices<'_>) -> Place {
    Place { part: Some("a".to_owned()), path: Some(field_path(choices)), ..Place::default() }
}

#[cfg(test)]
mod tests {
    use super::fuzz_layout;

    #[test]
    fn layouts_made_by_chance_keep_every_promise() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut bytes = [0; 300];
        let accepted = (0..60_000).filter(|_| {
            random.fill(&mut bytes);
            // Small lengths and ids are what makes frames.
            for byte in bytes.iter_mut().skip(100) {
                *byte &= if *byte & 3 == 0 { 0xff } else { 0x0f };
            }
            fuzz_layout(&bytes)
        });
        assert!(accepted.count() > 1000);
    }
}
