use crate::{Change, Codec, Depth, Edit, Head, Place, Search};

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
        if let Some(place) = found.place(name) {
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
    for text in [&same, "é😀"] {
        let changes = [Change::set(name, text)];
        let written = |place| {
            let mut out = Vec::new();
            let written =
                codec.rewrite(bytes, &Edit { changes: &changes, place, ..Edit::default() }, &mut out);
            written.map(|()| out)
        };
        let (there, last) = (written(Some(place)), written(None));
        if let (Place::Over { at, .. }, Ok(there), Ok(last)) = (place, &there, &last)
            && text == same
            && bytes.get(at..).and_then(|rest| rest.get(..text.len())).is_some_and(<[u8]>::is_ascii)
        {
            let wanted = [bytes.get(..at), Some(text.as_bytes()), bytes.get(at.saturating_add(text.len())..)];
            assert_eq!(*there, wanted.map(Option::unwrap_or_default).concat());
            assert_eq!(sorted(codec, there), sorted(codec, last));
        } else {
            assert_eq!(there, last, "{name}");
        }
    }
}

fn sorted(codec: &dyn Codec, bytes: &[u8]) -> Vec<(String, String)> {
    let mut head = Head::new();
    assert_eq!(codec.head(bytes, Depth::Attachments, &mut head), Ok(()));
    let mut all: Vec<_> = head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    all.sort();
    all
}
