use super::{Attribute, Form, Layout, Part, Shape, Source, entry::Key, part::text, split::field};
use crate::protobuf::{Fields, Value};
use crate::{Codec, Depth, Error, Head};

impl Layout {
    /// Reads the attributes of a request into `head`: those in the header and in the first so many parts.
    #[inline]
    pub(super) fn read(
        &self,
        request: &[u8],
        parts: usize,
        depth: Depth,
        head: &mut Head,
    ) -> Result<(), Error> {
        let (frame, base) = self.header(request);
        let Some(shape) = self.shape_of(frame) else { return Ok(()) };
        let verified = depth == Depth::Verified;

        for attribute in &self.attributes {
            match &attribute.source {
                Source::Number(number) => attribute.push(number.read(frame).unwrap_or(0), head),
                Source::Text { at, len } => {
                    let bytes = frame.get(*at..).and_then(|rest| rest.get(..*len)).unwrap_or_default();
                    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                    head.push(
                        &attribute.name,
                        text(bytes.get(..end).unwrap_or_default(), base.saturating_add(*at))?,
                    );
                }
                _ => {}
            }
        }
        for part in self.parts(shape, frame, base).take(parts) {
            let (place, part, bytes, at) = part?;
            match &part.form {
                Form::Bytes => {}
                Form::Text => head.push(&part.name, text(bytes, at)?),
                Form::Protobuf { .. } => self.fields(place, bytes, at, verified, head)?,
                Form::Json | Form::Pairs { .. } | Form::Map { .. } | Form::Tlv { .. } => {
                    let wants = |attribute: &Attribute| attribute.source.is_entry_of(place);
                    if verified || self.attributes.iter().any(wants) {
                        part.entries(bytes, at, &mut |key, value, at| {
                            self.entry(place, key, value, at, verified, head)
                        })?;
                    }
                }
            }
        }
        if depth > Depth::Head { self.attach(shape, frame, base, verified, head) } else { Ok(()) }
    }

    /// The parts of a frame: number, part, bytes and where these are.
    #[inline(always)]
    fn parts<'a>(
        &self,
        shape: &'a Shape,
        frame: &'a [u8],
        base: usize,
    ) -> impl Iterator<Item = Result<(usize, &'a Part, &'a [u8], usize), Error>> {
        let mut start = shape.header;
        shape.parts.iter().enumerate().map(move |(place, part)| {
            let (bytes, at) = part.find(frame, start)?;
            start = at.saturating_add(bytes.len());
            Ok((place, part, bytes, at.saturating_add(base)))
        })
    }

    /// Reads the attributes that are fields of a message.
    #[inline(never)]
    fn fields(
        &self,
        place: usize,
        message: &[u8],
        at: usize,
        once: bool,
        head: &mut Head,
    ) -> Result<(), Error> {
        for attribute in &self.attributes {
            match &attribute.source {
                Source::Protobuf { part, path } if *part == place => match field(message, path, at, once)? {
                    Some(Value::Bytes(bytes)) => head.push(&attribute.name, text(bytes, at)?),
                    Some(Value::Varint(value) | Value::Fixed64(value)) => attribute.push(value, head),
                    Some(Value::Fixed32(value)) => attribute.push(value.into(), head),
                    None => {}
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads what the caller named.
    #[inline(never)]
    fn attach(
        &self,
        shape: &Shape,
        frame: &[u8],
        base: usize,
        verified: bool,
        head: &mut Head,
    ) -> Result<(), Error> {
        for part in self.parts(shape, frame, base) {
            let (place, part, bytes, at) = part?;
            match &part.form {
                Form::Protobuf { map: Some(map) } => self.map_entries(bytes, *map, at, verified, head)?,
                Form::Json | Form::Pairs { .. } | Form::Map { .. } => {
                    part.entries(bytes, at, &mut |key, value, at| match key {
                        Key::Text(key) | Key::Literal(key) if !self.is_declared(place, key) => {
                            self.attach_entry(key, value, at, verified, head)
                        }
                        _ => Ok(()),
                    })?;
                }
                Form::Bytes | Form::Text | Form::Protobuf { map: None } | Form::Tlv { .. } => {}
            }
        }
        Ok(())
    }

    /// Adds the entries of a map that is a field of a message.
    fn map_entries(
        &self,
        message: &[u8],
        map: u32,
        offset: usize,
        verified: bool,
        head: &mut Head,
    ) -> Result<(), Error> {
        for found in Fields::at(message, offset) {
            let found = found?;
            if found.number == map {
                match found.entry() {
                    Some((key, value)) => self.attach_entry(key, value, found.offset, verified, head)?,
                    None => return Err(Error::Malformed { what: "map", offset: found.offset }),
                }
            }
        }
        Ok(())
    }

    /// Adds what the caller named. What is no text is passed over, unless it must be known. What is called like an attribute
    /// would pass for one that the frame does not have.
    fn attach_entry(
        &self,
        key: &str,
        value: &[u8],
        at: usize,
        verified: bool,
        head: &mut Head,
    ) -> Result<(), Error> {
        if self.depth(key) == Depth::Head {
            return Ok(());
        }
        if verified && head.has_attachment(key) {
            return Err(Error::Malformed { what: "repeated key", offset: at });
        }
        match text(value, at) {
            Ok(value) => head.push_attachment(key, value),
            Err(error) if verified => return Err(error),
            Err(_) => {}
        }
        if verified && !head.has_attachment(key) {
            return Err(Error::Unsupported { what: "number of attachments", offset: at });
        }
        Ok(())
    }

    /// Whether an attribute is declared for an entry.
    fn is_declared(&self, place: usize, key: &str) -> bool {
        self.attributes.iter().any(|attribute| {
            matches!(&attribute.source, Source::Entry { part, key: known } if *part == place && known == key)
        })
    }

    /// Notes an entry of a part as the attribute that is declared for it, if one is.
    fn entry(
        &self,
        place: usize,
        key: Key<'_>,
        value: &[u8],
        at: usize,
        verified: bool,
        head: &mut Head,
    ) -> Result<(), Error> {
        for attribute in &self.attributes {
            let coding = match (&attribute.source, key) {
                (Source::Entry { part, key: wanted }, Key::Text(key) | Key::Literal(key))
                    if *part == place && looks_like(key, wanted) =>
                {
                    match key == wanted {
                        true => None,
                        false if verified => {
                            return Err(Error::Malformed { what: "key in doubt", offset: at });
                        }
                        false => continue,
                    }
                }
                (Source::Tagged { part, tag: wanted, number }, Key::Tag(tag))
                    if *part == place && tag == *wanted =>
                {
                    *number
                }
                _ => continue,
            };
            if verified && head.attributes().any(|(name, _)| name == attribute.name) {
                return Err(Error::Malformed { what: "repeated key", offset: at });
            }
            let is_plain = match key {
                Key::Literal(_) => is_plain_literal(value),
                _ => coding.is_some() || !value.contains(&0),
            };
            if verified && !is_plain {
                return Err(Error::Malformed { what: "value in doubt", offset: at });
            }
            match coding {
                None => head.push(&attribute.name, text(value, at)?),
                Some(coding) => {
                    let number = coding.read(value).filter(|(_, width)| *width == value.len());
                    let (number, _) = number.ok_or(Error::Malformed { what: "number", offset: at })?;
                    attribute.push(number, head);
                }
            }
        }
        Ok(())
    }
}

impl Source {
    fn is_entry_of(&self, place: usize) -> bool {
        matches!(self, Source::Entry { part, .. } | Source::Tagged { part, .. } if *part == place)
    }
}

/// Whether some servers take one key for the other: readers of JSON that pass over case, those too that fold two letters
/// that are not ASCII.
fn looks_like(key: &str, wanted: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key == wanted || key.chars().map(fold).eq(wanted.chars().map(fold))
}

/// Whether a number of JSON, or a truth value, is written in the one way that integers are: `1.0` may be the same as `1`.
fn is_plain_literal(value: &[u8]) -> bool {
    match value.strip_prefix(b"-").unwrap_or(value) {
        [b'0'] => value.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => matches!(value, b"true" | b"false"),
    }
}

impl Attribute {
    /// Adds the attribute with a number as its value.
    #[inline]
    fn push(&self, number: u64, head: &mut Head) {
        let number = number & self.mask;
        if let Some((_, name)) = self.names.iter().find(|(known, _)| *known == number) {
            head.push(&self.name, name);
            return;
        }
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number;
        for place in digits.iter_mut().rev() {
            *place = b'0'.wrapping_add((rest % 10) as u8);
            rest /= 10;
            start = start.saturating_sub(1);
            if rest == 0 {
                break;
            }
        }
        let digits = digits.get(start..).unwrap_or_default();
        head.push(&self.name, core::str::from_utf8(digits).unwrap_or_default());
    }
}
