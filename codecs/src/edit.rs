//! Changes to the attachments of a frame, as every protocol that has attachments makes them.

use crate::protobuf::{Field, write_entry};
use crate::{Edit, Place};

/// A change to the attachments of a frame.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name of the attachment. An edit has no two changes of one name.
    pub name: String,
    /// What is written of it; of one that is removed, nothing.
    pub value: String,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of an attachment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It has the new value, whether it was there before or not.
    #[default]
    Set,
    /// It has the new value, unless it is there.
    AddIfAbsent,
    /// The new value follows the one that is there, after a comma. One that is no text is replaced.
    Append,
    /// It is not there.
    Remove,
}

impl Change {
    /// The most changes of one edit that may ask whether an attachment is there.
    pub const MOST: usize = 64;

    /// Sets an attachment.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), action: Action::Set }
    }

    /// Removes an attachment.
    pub fn remove(name: impl Into<String>) -> Self {
        Self { name: name.into(), value: String::new(), action: Action::Remove }
    }
}

/// An attachment to write where it goes in a frame.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// What [`Head::place`](crate::Head::place) says of its name in that frame.
    pub place: Place,
    /// What [`Codec::entry`](crate::Codec::entry) made of its name and of the length of its value.
    pub entry: &'a [u8],
    /// The length of its value in bytes.
    pub len: usize,
}

/// What becomes of an attachment that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate<'a> {
    Stays,
    Goes,
    /// This follows its value.
    Grows(&'a str),
}

/// The changes of one edit, while the attachments of a frame are gone through.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    changes: &'a [Change],
    /// A bit for each change that has been made, or is not to be.
    done: u64,
    /// How many have been looked at after all that was there.
    written: usize,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(edit: &Edit<'a>) -> Self {
        Self { changes: edit.changes, done: 0, written: 0 }
    }

    /// What becomes of an attachment that is there, and may be text.
    // Each of these is called in several places, and once would be enough for the size of the module.
    #[inline(never)]
    pub(crate) fn meet(&mut self, name: &str, is_text: bool) -> Fate<'a> {
        let found = self.changes.iter().enumerate().find(|(_, change)| change.name == name);
        let Some((at, change)) = found else { return Fate::Stays };
        let fate = match change.action {
            Action::Append if is_text => Fate::Grows(&change.value),
            Action::AddIfAbsent => Fate::Stays,
            Action::Set | Action::Append | Action::Remove => return Fate::Goes,
        };
        self.done |= bit(at);
        fate
    }

    /// Appends what becomes of a field in protobuf, which is an entry of the map if it `may_be` and has its form.
    #[inline(never)]
    pub(crate) fn write(&mut self, field: &Field<'_>, may_be: bool, out: &mut Vec<u8>) {
        let entry = if may_be { field.entry() } else { None };
        let (key, value) = entry.unwrap_or_default();
        match entry.map_or(Fate::Stays, |_| self.meet(key, true)) {
            Fate::Stays => out.extend_from_slice(field.bytes),
            Fate::Goes => {}
            Fate::Grows(more) => write_entry(field.number, key, &grown(value, more), out),
        }
    }

    /// What is to be written beside all that was there: the next name and value.
    #[inline(never)]
    pub(crate) fn next(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            let at = self.written;
            let change = self.changes.get(at)?;
            self.written = at.saturating_add(1);
            if change.action != Action::Remove && self.done & bit(at) == 0 {
                return Some((&change.name, &change.value));
            }
        }
    }
}

fn bit(at: usize) -> u64 {
    u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or_default()
}

/// A value that another follows.
#[inline(never)]
pub(crate) fn grown(value: &[u8], more: &str) -> Vec<u8> {
    match value {
        [] => more.into(),
        value => [value, b",", more.as_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> [Change; 4] {
        let change = |name: &str, action| Change { action, ..Change::set(name, "new") };
        [
            change("set", Action::Set),
            change("add", Action::AddIfAbsent),
            change("append", Action::Append),
            Change::remove("remove"),
        ]
    }

    fn rest<'a>(pass: &mut Pass<'a>) -> Vec<(&'a str, &'a str)> {
        core::iter::from_fn(|| pass.next()).collect()
    }

    #[test]
    fn what_is_not_there_is_written() {
        let edit = Edit { changes: &changes(), ..Edit::default() };
        let mut pass = Pass::new(&edit);
        assert_eq!(pass.meet("other", true), Fate::Stays);
        assert_eq!(rest(&mut pass), [("set", "new"), ("add", "new"), ("append", "new")]);
    }

    #[test]
    fn what_is_there_stays_or_goes_or_grows() {
        let edit = Edit { changes: &changes(), ..Edit::default() };
        let mut pass = Pass::new(&edit);
        let fates = ["set", "add", "append", "remove"].map(|name| pass.meet(name, true));
        assert_eq!(fates, [Fate::Goes, Fate::Stays, Fate::Grows("new"), Fate::Goes]);
        assert_eq!(rest(&mut pass), [("set", "new")]);
        // What is no text cannot grow.
        let mut pass = Pass::new(&edit);
        assert_eq!((pass.meet("append", false), pass.meet("add", false)), (Fate::Goes, Fate::Stays));
        assert_eq!(rest(&mut pass), [("set", "new"), ("append", "new")]);
    }

    #[test]
    fn a_value_grows_by_a_comma() {
        assert_eq!((grown(b"", "x"), grown(b"a", "x")), (b"x".to_vec(), b"a,x".to_vec()));
        assert_eq!(grown(b"\xff", ""), b"\xff,");
    }
}
