use crate::Head;
use crate::marks::Marks;
use crate::words::are_same;

/// Attachments that are looked for by name, in one request of a protocol after the other.
///
/// Attachments are mostly those of an earlier call, byte by byte. Those that had none of the names are kept, so that they need
/// not be looked through again.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    names: &'a [&'a str],
    /// Those of all names.
    marks: Marks,
    /// Attachments as they were on the wire, which have none of the names whatever stands before them.
    silent: [Vec<u8>; KEPT],
    oldest: usize,
}

/// So many are kept: those of clients with calls of several kinds.
const KEPT: usize = 4;

/// The length of the longest that are kept.
const LONGEST: usize = 1024;

impl<'a> Search<'a> {
    /// A search for attachments of these names.
    pub fn new(names: &'a [&'a str]) -> Self {
        let marks = names.iter().fold(Marks::default(), |all, name| all.and(Marks::of(name.as_bytes())));
        Self { names, marks, silent: Default::default(), oldest: 0 }
    }

    /// Whether any of it may be in `head`, which is for [`Head::get`] to say.
    pub fn may_be_in(&self, head: &Head) -> bool {
        head.marks().have(self.marks)
    }

    /// The same of more than one name of it.
    pub fn may_several_be_in(&self, head: &Head) -> bool {
        head.marks().have_several(self.marks)
    }

    /// Whether that is one of the names.
    #[inline]
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.marks.have(Marks::of(name))
            && self.names.iter().any(|known| known.len() == name.len() && are_same(known.as_bytes(), name))
    }

    /// Whether these attachments are known to have none of the names.
    pub(crate) fn is_silent(&self, attachments: &[u8]) -> bool {
        !attachments.is_empty() && self.silent.iter().any(|known| are_same(known, attachments))
    }

    /// Keeps attachments that have none of the names, wherever they stand.
    pub(crate) fn keep_silent(&mut self, attachments: &[u8]) {
        let oldest = self.oldest;
        if let Some(place) = self.silent.get_mut(oldest).filter(|_| attachments.len() <= LONGEST) {
            place.clear();
            place.extend_from_slice(attachments);
            self.oldest = oldest.wrapping_add(1) % KEPT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_are_kept() {
        let mut search = Search::new(&["k"]);
        let attachments: Vec<Vec<u8>> = (1..=6).map(|number| vec![number; 20]).collect();
        assert!(!search.is_silent(&attachments[0]) && !search.is_silent(&[]));
        attachments.iter().for_each(|attachments| search.keep_silent(attachments));
        let known: Vec<_> = attachments.iter().map(|attachments| search.is_silent(attachments)).collect();
        assert_eq!(known, [false, false, true, true, true, true]);
        search.keep_silent(&[7; LONGEST + 1]);
        assert!(search.is_silent(&attachments[2]), "what is too long takes nobody's place");
    }
}
