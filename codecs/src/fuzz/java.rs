//! A model of how Dubbo 2.7 reads the attachments of a request once it has lost its place, made for comparison: it builds
//! what it reads, and knows nothing of how requests are verified.
use std::collections::BTreeMap;

/// A value as Java has it, as far as attachments need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Null,
    Text(String),
    Map(BTreeMap<Self, Self>),
    Other,
}

/// The names of a class's fields.
type Class = Vec<String>;

/// A reader at some place.
#[derive(Debug, Clone)]
pub(super) struct Java<'a> {
    rest: &'a [u8],
    classes: Vec<Class>,
    steps: usize,
}

/// What a server finds a service by, where the attachments say it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) path: Option<String>,
    pub(super) version: Option<Option<String>>,
    pub(super) group: Option<Option<String>>,
}

impl<'a> Java<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, classes: Vec::new(), steps: 4096 }
    }

    /// What is left to read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The same reader further on.
    pub(super) fn at(&self, rest: &'a [u8]) -> Self {
        Self { rest, ..self.clone() }
    }

    /// Passes over a value; `None` where Java throws.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.value(0).map(|_| ())
    }

    /// Passes over the definitions, tag, type and number at the front of a value that has others in it.
    pub(super) fn opening(&mut self) -> Option<()> {
        loop {
            match self.byte()? {
                b'C' => self.definition()?,
                b'M' | b'U' | 0x70..=0x77 => return self.kind(),
                b'V' => {
                    self.kind()?;
                    return self.integer().map(|_| ());
                }
                b'X' | b'O' => return self.integer().map(|_| ()),
                b'H' | b'W' | 0x60..=0x6f | 0x78..=0x7f => return Some(()),
                _ => return None,
            }
        }
    }

    /// What attachments say that are read here: `None` where Java throws, or where a cast would.
    pub(super) fn attachments(mut self) -> Option<Service> {
        let Value::Map(map) = self.map()? else { return None };
        let get = |name: &str| map.get(&Value::Text(name.to_owned()));
        let text = |value: Option<&Value>| match value {
            None => Some(None),
            Some(Value::Null) => Some(Some(None)),
            Some(Value::Text(text)) => Some(Some(Some(text.clone()))),
            Some(_) => None,
        };
        Some(Service {
            // Null is no service's path.
            path: match text(get("path"))? {
                Some(path) => Some(path?),
                None => None,
            },
            version: text(get("version"))?,
            group: text(get("group"))?,
        })
    }

    /// `readObject(Map.class)`: any object becomes a map.
    fn map(&mut self) -> Option<Value> {
        match self.rest.first()? {
            b'C' => {
                self.byte()?;
                self.definition()?;
                self.map()
            }
            b'H' | b'M' | b'O' | 0x60..=0x6f => self.value(0),
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn number(&mut self, bytes: usize) -> Option<i64> {
        let mut number = 0_i64;
        for _ in 0..bytes {
            number = number << 8 | i64::from(self.byte()?);
        }
        Some(number)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.steps = self.steps.checked_sub(1)?;
        if depth > 32 {
            return None;
        }
        let deeper = depth.saturating_add(1);
        let before = self.rest;
        let tag = self.byte()?;
        match tag {
            b'N' => return Some(Value::Null),
            b'T' | b'F' | 0x5b | 0x5c | 0x80..=0xbf | 0xd8..=0xef => {}
            0x5d | 0xc0..=0xcf | 0xf0..=0xff => _ = self.number(1)?,
            0x5e | 0x38..=0x3f | 0xd0..=0xd7 => _ = self.number(2)?,
            b'I' | 0x59 | 0x5f | 0x4b => _ = self.number(4)?,
            b'L' | b'D' | 0x4a => _ = self.number(8)?,
            0x00..=0x1f | 0x30..=0x33 | b'R' | b'S' => {
                self.rest = before;
                return self.text().map(Value::Text);
            }
            0x20..=0x2f | 0x34..=0x37 | b'A' | b'B' => {
                self.rest = before;
                self.binary()?;
            }
            b'Q' => _ = self.integer()?,
            b'H' => return self.entries(deeper),
            b'M' => {
                self.kind()?;
                return self.entries(deeper);
            }
            b'W' => self.until_end(deeper)?,
            b'U' => {
                self.kind()?;
                self.until_end(deeper)?;
            }
            b'X' => {
                let count = self.integer()?;
                self.values(count, deeper)?;
            }
            b'V' => {
                self.kind()?;
                let count = self.integer()?;
                self.values(count, deeper)?;
            }
            0x70..=0x77 => {
                self.kind()?;
                self.values(i64::from(tag & 7), deeper)?;
            }
            0x78..=0x7f => self.values(i64::from(tag & 7), deeper)?,
            b'C' => {
                self.definition()?;
                return self.value(deeper);
            }
            b'O' => {
                let class = self.integer()?;
                return self.object(class, deeper);
            }
            0x60..=0x6f => return self.object(i64::from(tag & 15), deeper),
            _ => return None,
        }
        Some(Value::Other)
    }

    fn values(&mut self, count: i64, depth: usize) -> Option<()> {
        for _ in 0..count {
            self.value(depth)?;
        }
        Some(())
    }

    fn until_end(&mut self, depth: usize) -> Option<()> {
        while *self.rest.first()? != b'Z' {
            self.value(depth)?;
        }
        self.byte().map(|_| ())
    }

    fn entries(&mut self, depth: usize) -> Option<Value> {
        let mut map = BTreeMap::new();
        while *self.rest.first()? != b'Z' {
            let key = self.value(depth)?;
            map.insert(key, self.value(depth)?);
        }
        self.byte()?;
        Some(Value::Map(map))
    }

    fn object(&mut self, class: i64, depth: usize) -> Option<Value> {
        let fields = self.classes.get(usize::try_from(class).ok()?)?.clone();
        let mut map = BTreeMap::new();
        for field in fields {
            map.insert(Value::Text(field), self.value(depth)?);
        }
        Some(Value::Map(map))
    }

    fn definition(&mut self) -> Option<()> {
        self.name()?;
        let mut fields = Vec::new();
        for _ in 0..self.integer().filter(|count| *count >= 0)? {
            self.steps = self.steps.checked_sub(1)?;
            fields.push(self.name()?);
        }
        self.classes.push(fields);
        Some(())
    }

    /// `readString`, which takes other scalars too.
    fn name(&mut self) -> Option<String> {
        match self.rest.first()? {
            0x00..=0x1f | 0x30..=0x33 | b'R' | b'S' => self.text(),
            b'N' | b'T' | b'F' | b'I' | b'L' | b'D' | 0x38..=0x3f | 0x59 | 0x5b..=0x5f | 0x80..=0xff => {
                self.value(0).map(|_| "?".to_owned())
            }
            _ => None,
        }
    }

    fn kind(&mut self) -> Option<()> {
        match self.rest.first()? {
            0x00..=0x1f | 0x30..=0x33 | b'R' | b'S' => self.text().map(|_| ()),
            _ => self.integer().map(|_| ()),
        }
    }

    /// `readInt`, as far as whole numbers go.
    fn integer(&mut self) -> Option<i64> {
        let tag = self.byte()?;
        let high = i64::from(tag);
        Some(match tag {
            b'N' | b'F' | 0x5b => 0,
            b'T' | 0x5c => 1,
            0x80..=0xbf => high.wrapping_sub(0x90),
            0xc0..=0xcf => high.wrapping_sub(0xc8) << 8 | self.number(1)?,
            0xd0..=0xd7 => high.wrapping_sub(0xd4) << 16 | self.number(2)?,
            b'I' | 0x59 => (self.number(4)? << 32) >> 32,
            0xd8..=0xef => high.wrapping_sub(0xe0),
            0xf0..=0xff => high.wrapping_sub(0xf8) << 8 | self.number(1)?,
            0x38..=0x3f => high.wrapping_sub(0x3c) << 16 | self.number(2)?,
            b'L' => (self.number(8)? << 32) >> 32,
            _ => return None,
        })
    }

    fn text(&mut self) -> Option<String> {
        let mut units = Vec::new();
        loop {
            let tag = self.byte()?;
            let count = match tag {
                0x00..=0x1f => i64::from(tag),
                0x30..=0x33 => i64::from(tag & 3) << 8 | self.number(1)?,
                b'R' | b'S' => self.number(2)?,
                _ => return None,
            };
            for _ in 0..count {
                let lead = u16::from(self.byte()?);
                let mut tail = || self.byte().map(|byte| u16::from(byte & 0x3f));
                units.push(match lead {
                    0x00..=0x7f => lead,
                    0xc0..=0xdf => (lead & 0x1f) << 6 | tail()?,
                    0xe0..=0xef => (lead & 0x0f) << 12 | tail()? << 6 | tail()?,
                    _ => return None,
                });
            }
            if tag != b'R' {
                return Some(String::from_utf16_lossy(&units));
            }
        }
    }

    fn binary(&mut self) -> Option<()> {
        loop {
            let tag = self.byte()?;
            let count = match tag {
                0x20..=0x2f => i64::from(tag & 15),
                0x34..=0x37 => i64::from(tag & 3) << 8 | self.number(1)?,
                b'A' | b'B' => self.number(2)?,
                _ => return None,
            };
            for _ in 0..count {
                self.byte()?;
            }
            if tag != b'A' {
                return Some(());
            }
        }
    }
}
