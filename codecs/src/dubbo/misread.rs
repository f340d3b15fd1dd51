//! What a server may take for the attachments of a request when it loses its place among the arguments.
//!
//! Dubbo 2.7 catches an exception in an argument, whose cause may be a type that only the server knows, and reads the
//! attachments from where that left it. So it may read them from any place behind the opening of the first argument that
//! can fail: inside a string, from a map that is an argument, from an object whose fields then are the attachments.
use super::descriptor;
use super::front::Front;
use super::verify::{Service, service_version};
use crate::hessian::{END, Lenient, NULL, Reader, Stop, is_text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Path,
    Version,
    Group,
}

/// The most units of a name that matters, and of a value that is compared.
const MOST_UNITS: usize = 4096;

/// Whether a server that loses its place in `body`, which starts with the arguments, can find no other service there than
/// `service`. What would take long to find out is not certain either: the time is linear in the bytes.
pub(super) fn is_certain(front: &Front<'_>, service: Service<'_>, body: &[u8]) -> bool {
    let Some((body, inside)) = first_risk(front, body) else { return true };
    // A step or two for each byte of honest requests: most bytes start nothing that matters.
    let steps = body.len().saturating_mul(4).saturating_add(4096);
    let mut search = Search { service, lenient: Lenient::new(steps), classes: Vec::new() };
    search.finds_none(body, inside) == Ok(true)
}

/// The bytes from the first argument on that a server may fail to read, and those of them at which it may then resume.
fn first_risk<'a>(front: &Front<'_>, body: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut rest = body;
    let mut types = front.types().unwrap_or_default();
    while !types.is_empty() {
        let (first, after) = descriptor::split(types).unwrap_or((types, ""));
        let &tag = rest.first()?;
        let mut reader = Reader::strict();
        if !is_plain(first, tag) {
            let inside = match tag {
                b'C' | b'H' | b'M' | b'O' | 0x55..=0x58 | 0x60..=0x7f => {
                    reader.opening(rest).ok().map(|(inside, ())| inside)
                }
                _ => None,
            };
            return Some((rest, inside.unwrap_or(rest)));
        }
        (rest, ()) = reader.skip(rest).ok()?;
        types = after;
    }
    None
}

/// Whether a value that starts with `tag` can be read for a parameter of this type, whatever is in it.
fn is_plain(descriptor: &str, tag: u8) -> bool {
    let is_int = matches!(tag, 0x80..=0xd7 | b'I');
    let is_long = matches!(tag, 0x38..=0x3f | 0xd8..=0xff | 0x59 | b'L');
    let is_double = matches!(tag, 0x5b..=0x5f | b'D');
    let is_bool = matches!(tag, b'T' | b'F');
    let is_date = matches!(tag, 0x4a | 0x4b);
    let is_binary = matches!(tag, 0x20..=0x2f | 0x34..=0x37 | b'A' | b'B');
    tag == NULL
        || match descriptor {
            "Ljava/lang/String;" | "C" | "Ljava/lang/Character;" => is_text(tag),
            "I" | "S" | "B" | "Ljava/lang/Integer;" | "Ljava/lang/Short;" | "Ljava/lang/Byte;" => is_int,
            "J" | "Ljava/lang/Long;" => is_int || is_long,
            "F" | "D" | "Ljava/lang/Float;" | "Ljava/lang/Double;" => is_int || is_double,
            "Z" | "Ljava/lang/Boolean;" => is_bool,
            "Ljava/util/Date;" => is_date,
            "[B" => is_binary,
            "Ljava/lang/Object;" => {
                is_text(tag) || is_int || is_long || is_double || is_bool || is_date || is_binary
            }
            _ => false,
        }
}

struct Search<'a> {
    service: Service<'a>,
    lenient: Lenient,
    /// The fields of each class that may be defined, where one has a name that matters.
    classes: Vec<Vec<Option<Key>>>,
}

impl Search<'_> {
    fn finds_none(&mut self, body: &[u8], inside: &[u8]) -> Result<bool, Stop> {
        if !self.has_names(body, inside)? {
            return Ok(true);
        }
        let mut rest = inside;
        while let Some((&tag, after)) = rest.split_first() {
            let found = match tag {
                b'H' => self.map(after),
                b'M' => self.typed_map(after),
                0x60..=0x6f | b'O' => self.object(rest),
                _ => Ok(false),
            };
            match found {
                Ok(true) => return Ok(false),
                Ok(false) | Err(Stop::Broken) => {}
                Err(Stop::Unsure) => return Err(Stop::Unsure),
            }
            rest = after;
        }
        Ok(true)
    }

    /// Whether a name that matters occurs anywhere, with another value behind it or among the fields of a class. Few
    /// requests have one, and the rest is spared them.
    fn has_names(&mut self, body: &[u8], inside: &[u8]) -> Result<bool, Stop> {
        let mut found = false;
        let mut rest = body;
        while let Some((&tag, after)) = rest.split_first() {
            let here = match tag {
                b'C' => self.class(after),
                _ if !found && rest.len() <= inside.len() && may_be_key(rest) => self.pair(rest),
                _ => Ok(false),
            };
            match here {
                Ok(here) => found |= here,
                Err(Stop::Broken) => {}
                Err(Stop::Unsure) => return Err(Stop::Unsure),
            }
            rest = after;
        }
        Ok(found)
    }

    /// Notes the class that may be defined here, and says whether a field of it matters.
    fn class(&mut self, input: &[u8]) -> Result<bool, Stop> {
        let mut names = Vec::new();
        let (_, count) = self.lenient.definition(input, |name| names.push(name))?;
        self.lenient.define(count);
        let mut fields = Vec::new();
        for name in names {
            fields.push(self.key(name)?.map(|(_, key)| key));
        }
        let matters = fields.iter().any(Option::is_some);
        self.classes.push(if matters { fields } else { Vec::new() });
        Ok(matters)
    }

    /// Whether there is an entry here that names another service.
    fn pair(&mut self, input: &[u8]) -> Result<bool, Stop> {
        match self.key(input)? {
            Some((value, key)) => self.misleads(key, value),
            None => Ok(false),
        }
    }

    fn typed_map(&mut self, input: &[u8]) -> Result<bool, Stop> {
        let (rest, ()) = self.lenient.type_name(input)?;
        self.map(rest)
    }

    /// Whether the entries here are those of a map, and name another service.
    fn map(&mut self, input: &[u8]) -> Result<bool, Stop> {
        let mut found = false;
        let mut rest = input;
        while rest.first() != Some(&END) {
            let key = self.key(rest)?;
            (rest, ()) = self.lenient.skip(rest)?;
            if let Some((_, key)) = key {
                found |= self.misleads(key, rest)?;
            }
            (rest, ()) = self.lenient.skip(rest)?;
        }
        Ok(found)
    }

    /// Whether there is an object here whose fields, taken for entries, name another service.
    fn object(&mut self, input: &[u8]) -> Result<bool, Stop> {
        let (values, first) = self.lenient.class(input)?;
        for at in first..self.classes.len() {
            self.lenient.charge(1)?;
            let Some(fields) = self.classes.get(at).filter(|fields| !fields.is_empty()).cloned() else {
                continue;
            };
            match self.fields(&fields, values) {
                Ok(false) | Err(Stop::Broken) => {}
                other => return other,
            }
        }
        Ok(false)
    }

    fn fields(&mut self, fields: &[Option<Key>], input: &[u8]) -> Result<bool, Stop> {
        let mut found = false;
        let mut rest = input;
        for field in fields {
            if let Some(key) = field {
                found |= self.misleads(*key, rest)?;
            }
            (rest, ()) = self.lenient.skip(rest)?;
        }
        Ok(found)
    }

    /// The name that matters here, and what follows it.
    fn key<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], Key)>, Stop> {
        if !may_be_key(input) {
            return Ok(None);
        }
        let mut name = [0; 8];
        let mut count = 0_usize;
        let (rest, ()) = self.lenient.text(input, |unit| {
            if let Some(place) = name.get_mut(count) {
                *place = u8::try_from(unit).unwrap_or_default();
            }
            count = count.saturating_add(1);
        })?;
        Ok(match name.get(..count) {
            Some(b"path") => Some((rest, Key::Path)),
            Some(b"version") => Some((rest, Key::Version)),
            Some(b"group") => Some((rest, Key::Group)),
            _ => None,
        })
    }

    /// Whether the value here makes another service of the one that is called. What is neither text nor null finds none.
    fn misleads(&mut self, key: Key, input: &[u8]) -> Result<bool, Stop> {
        let mut units = Vec::new();
        let mut is_long = false;
        match input.first() {
            Some(&tag) if is_text(tag) => {
                self.lenient.text(input, |unit| match units.len() < MOST_UNITS {
                    true => units.push(unit),
                    false => is_long = true,
                })?;
            }
            // A service has a path.
            Some(&NULL) if key != Key::Path => {}
            _ => return Ok(false),
        }
        let value = String::from_utf16_lossy(&units);
        Ok(is_long
            || match key {
                // No service's path starts with a slash: Dubbo takes it off.
                Key::Path => value != self.service.path && !value.starts_with('/'),
                Key::Version => service_version(&value) != service_version(self.service.version),
                Key::Group => value != self.service.group,
            })
    }
}

/// Whether a string of the length of a name that matters may start here, in one piece or several.
fn may_be_key(input: &[u8]) -> bool {
    match input {
        [4 | 5 | 7, ..] | [0x30, 4 | 5 | 7, ..] | [b'S', 0, 4 | 5 | 7, ..] => true,
        [b'R', 0, count, ..] => *count <= 7,
        _ => false,
    }
}
