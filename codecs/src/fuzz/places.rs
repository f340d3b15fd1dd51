use crate::{Change, Codec, Depth, Edit, Head, Place, Placed, Search};

/// What is found by name is what is read of all, and what is written where the head says makes the frame that looking through
/// all of it makes, but for the order of attachments.
pub(super) fn check_places(codec: &dyn Codec, bytes: &[u8]) {
    let mut all = Head::new();
    if codec.head(bytes, Depth::Attachments, &mut all).is_err() {
        return;
    }
    let mut names: Vec<_> = all.attachments().map(|(name, _)| name).take(3).collect();
    names.push("k");
    for name in names {
        let names = [name];
        let mut search = Search::new(&names);
        let mut find = |mut head: Head| {
            assert_eq!(codec.head(bytes, Depth::Operation, &mut head), Ok(()));
            assert_eq!(codec.find(bytes, &mut search, &mut head), Ok(()));
            assert!(search.may_be_in(&head) || value(&head, name).is_none(), "{name}");
            head
        };
        let found = find(Head::new());
        // Without the operation, which is read, too.
        let mut alone = Head::new();
        assert_eq!(codec.find(bytes, &mut Search::new(&names), &mut alone), Ok(()));
        assert!(alone.iter().eq(found.iter()) && alone.place(name) == found.place(name), "{name}");
        // Nothing is left of a frame that said no more than where its attachments end.
        let mut used = Head::new();
        used.set_room(1);
        assert_eq!(find(used).place(name), found.place(name), "{name}");
        assert_eq!(value(&found, name), value(&all, name), "{name}");
        // What is of no use to others does not matter.
        assert!(all.place(name).is_none_or(|place| found.place(name) == Some(place)), "{name}");
        if let Some(place) = found.place(name).filter(|_| name.is_ascii()) {
            check_place(codec, bytes, name, place);
        }
    }
}

fn value<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    head.attachments().find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn check_place(codec: &dyn Codec, bytes: &[u8], name: &str, place: Place) {
    let same = match place {
        Place::Over { len, .. } => "x".repeat(len),
        Place::Before(_) => "x".to_owned(),
    };
    for text in [&*same, "longer than what is there"] {
        let mut out = b"before".to_vec();
        let attachment = Placed { place, entry: &codec.entry(name, text.len()), len: text.len() };
        let value = codec.place(bytes, 7, &attachment, &mut out);
        let is_placed = value.is_some();
        if let Some(value) = value {
            value.copy_from_slice(text.as_bytes());
        }
        let there = out.split_off(6);
        assert_eq!(out, b"before");
        let written = |changes: &[Change]| {
            let mut out = Vec::new();
            let edit = Edit { id: Some(7), changes, ..Edit::default() };
            codec.rewrite(bytes, &edit, &mut out).map(|()| out)
        };
        let last = written(&[Change::set(name, text)]);
        assert!(is_placed || there.is_empty(), "{name}");
        if !is_placed {
            let is_ascii = |at| bytes.iter().skip(at).take(text.len()).all(u8::is_ascii);
            let may_be = match place {
                Place::Over { at, .. } => text == same && is_ascii(at),
                Place::Before(_) => true,
            };
            assert!(!may_be || last.is_err(), "{name}");
            continue;
        }
        let mut wanted = last.unwrap_or_default();
        if let Place::Over { at, len } = place {
            assert_eq!(sorted(codec, &there), sorted(codec, &wanted));
            wanted = written(&[]).unwrap_or_default();
            wanted.splice(at..at.saturating_add(len), text.bytes());
        }
        assert_eq!(there, wanted, "{name}");
    }
}

fn sorted(codec: &dyn Codec, bytes: &[u8]) -> Vec<(String, String)> {
    let mut head = Head::new();
    assert_eq!(codec.head(bytes, Depth::Attachments, &mut head), Ok(()));
    let mut all: Vec<_> = head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    all.sort();
    all
}
