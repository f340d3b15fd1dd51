use super::split::field;
use super::{Layout, Place, Shape};
use crate::Error;
use crate::protobuf::{Fields, Value};

/// The most fields of a message in which places are looked for.
pub(super) const MOST_FIELDS: usize = 16 << 10;

/// What a number of a frame says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    /// Its id: of those in messages, the first.
    Id,
    Kind,
    Status,
    /// The service's own status.
    Service,
}

/// The numbers of a frame. A message is read once for all of them that it holds.
pub(super) struct Numbers<'a> {
    shape: &'a Shape,
    frame: &'a [u8],
    /// Where they are, in the order of [`Says`].
    places: [Option<&'a Place>; 4],
    /// The part that was read.
    part: Option<usize>,
    /// What the first step of each path leads to in it, and where that ends.
    found: [Option<(Value<'a>, usize)>; 4],
}

impl<'a> Numbers<'a> {
    /// Those that a layout asks for.
    #[inline(always)]
    pub(super) fn new(layout: &'a Layout, shape: &'a Shape, frame: &'a [u8]) -> Self {
        let id = layout.ids.iter().find(|place| matches!(place, Place::Protobuf { .. }));
        let kind = layout.kinds.as_ref().map(|kinds| &kinds.place);
        let statuses = &layout.statuses;
        let places = [id, kind, statuses.place.as_ref(), statuses.service.as_ref()];
        Self { shape, frame, places, part: None, found: [None; 4] }
    }

    /// The number at one place.
    #[inline(always)]
    pub(super) fn alone(place: &Place, shape: &Shape, frame: &[u8]) -> Result<Option<u64>, Error> {
        match place {
            Place::Header(number) => Ok(number.read(frame)),
            Place::Protobuf { part, path } => {
                let places = [Some(place), None, None, None];
                let mut numbers = Numbers { shape, frame, places, part: None, found: [None; 4] };
                numbers.deep(Says::Id, *part, path)
            }
        }
    }

    /// The number that says this, at its place.
    #[inline(always)]
    pub(super) fn read(&mut self, says: Says, place: &Place) -> Result<Option<u64>, Error> {
        match place {
            Place::Header(number) => Ok(number.read(self.frame)),
            Place::Protobuf { part, path } => self.deep(says, *part, path),
        }
    }

    #[inline(never)]
    fn deep(&mut self, says: Says, part: usize, path: &[u32]) -> Result<Option<u64>, Error> {
        if self.part != Some(part) {
            self.find(part)?;
        }
        let found = self.found.get(says as usize).copied().flatten();
        let (Some((value, end)), Some((_, deeper))) = (found, path.split_first()) else { return Ok(None) };
        let value = match value {
            value if deeper.is_empty() => Some(value),
            Value::Bytes(inner) => field(inner, deeper, end.saturating_sub(inner.len()), false)?,
            _ => None,
        };
        Ok(value.and_then(|value| match value {
            Value::Varint(value) | Value::Fixed64(value) => Some(value),
            Value::Fixed32(value) => Some(value.into()),
            Value::Bytes(_) => None,
        }))
    }

    /// Reads a part: of each place in it, the last field that its path starts with.
    fn find(&mut self, number: usize) -> Result<(), Error> {
        let (message, start) = self.shape.part(number, self.frame)?;
        // No field has the number 0.
        let mut wanted = [(0, false); 4];
        for (wanted, place) in wanted.iter_mut().zip(self.places) {
            if let Some(Place::Protobuf { part, path }) = place
                && *part == number
            {
                *wanted = (path.first().copied().unwrap_or(0), path.len() > 1);
            }
        }
        self.found = [None; 4];
        for (count, field) in Fields::at(message, start).enumerate() {
            let field = field?;
            if count >= MOST_FIELDS {
                return Err(Error::Unsupported { what: "number of fields", offset: field.offset });
            }
            for (found, (number, is_message)) in self.found.iter_mut().zip(wanted) {
                if number == field.number && (!is_message || field.value.bytes().is_some()) {
                    *found = Some((field.value, field.offset.saturating_add(field.bytes.len())));
                }
            }
        }
        self.part = Some(number);
        Ok(())
    }
}
