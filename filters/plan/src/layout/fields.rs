use meltemi_codecs::layout::Place;

use crate::error::{Path, Result, fail};

/// The bytes of a header that fields take, and how far they reach.
#[derive(Clone, Default)]
pub(super) struct Fields {
    taken: Vec<(String, usize, usize)>,
    /// The fields in parts: what they are, the part and the path.
    deep: Vec<(String, usize, Vec<u32>)>,
    /// The end of the last one, and what it is.
    last: (usize, String),
}

impl Fields {
    /// Notes a field from `start` to `end`.
    pub(super) fn note(&mut self, path: &Path<'_>, start: usize, end: usize) -> Result<()> {
        if let Some((other, from, to)) = self.taken.iter().find(|(_, from, to)| start < *to && *from < end) {
            let message = format!(
                "bytes {start} to {end} overlap {other}, which has {from} to {to}; move one of the two"
            );
            return fail(path, message);
        }
        self.taken.push((path.to_string(), start, end));
        self.reach(path, end);
        Ok(())
    }

    /// Notes a number.
    pub(super) fn note_place(&mut self, path: &Path<'_>, place: &Place) -> Result<()> {
        match place {
            Place::Header(number) => self.note(path, number.at(), number.end()),
            Place::Protobuf { part, path: fields } => {
                let meets = |other: &[u32]| fields.starts_with(other) || other.starts_with(fields);
                if let Some((other, ..)) =
                    self.deep.iter().find(|(_, of, fields)| of == part && meets(fields))
                {
                    return fail(
                        path,
                        format!(
                            "{other} has the same place, or is in it; write another path for one of the two"
                        ),
                    );
                }
                self.deep.push((path.to_string(), *part, fields.clone()));
                Ok(())
            }
        }
    }

    /// Notes that the header goes on to `end`.
    pub(super) fn reach(&mut self, path: &Path<'_>, end: usize) {
        if end > self.last.0 {
            self.last = (end, path.to_string());
        }
    }

    /// The length of the header, which must not end sooner than the last field.
    pub(super) fn header(&self, path: &Path<'_>, given: Option<usize>) -> Result<usize> {
        let (end, last) = &self.last;
        match given {
            Some(given) if given < *end => fail(
                path,
                format!("ends before {last} does, at {end}; write {end} at least, or leave it out"),
            ),
            Some(given) => Ok(given),
            None => Ok(*end),
        }
    }
}
