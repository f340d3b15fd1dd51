//! What a part holds, one by one.
use crate::Error;

/// A key of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Text(&'a str),
    /// The key of a number or a truth value of JSON.
    Literal(&'a str),
    Tag(u64),
}

/// What is done with an entry: its key, its value and where that is.
pub(super) type Visit<'v> = dyn FnMut(Key<'_>, &[u8], usize) -> Result<(), Error> + 'v;
