use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

fn all(head: &Head) -> Vec<(&str, &str)> {
    head.iter().collect()
}

#[test]
fn what_replaces_is_all_that_is_known() {
    let mut head = Head::new();
    head.push("method", "a");
    head.push_attachment("source.ip", "forged");
    head.push("source.ip", "forged too");
    head.push_attachment("tag", "x");
    head.replace("source.ip", Some("10.0.0.1"));
    assert_eq!(all(&head), [("method", "a"), ("tag", "x"), ("source.ip", "10.0.0.1")]);
    assert_eq!(head.attachments().collect::<Vec<_>>(), [("tag", "x")]);
    head.replace("source.ip", None);
    head.replace("never", None);
    assert_eq!(all(&head), [("method", "a"), ("tag", "x")]);
    assert_eq!(head.get("source.ip"), None);
}

#[test]
fn the_first_of_a_name_is_kept() {
    let mut head = Head::new();
    head.push("path", "own");
    for (name, value) in [("path", "a"), ("tag", "b"), ("path", "again"), ("tag", "again")] {
        head.push_attachment(name, value);
    }
    head.push("path", "again");
    assert_eq!(all(&head), [("path", "own"), ("tag", "b")]);
    assert_eq!(head.attachments().collect::<Vec<_>>(), [("path", "a"), ("tag", "b")]);
    head.push("tag", "own");
    assert_eq!(all(&head), [("path", "own"), ("tag", "own")]);
}

#[test]
fn numbers_are_text() {
    for value in [0, 1, -1, 9, 10, 1_234_567_890, i64::MAX, i64::MIN] {
        let mut head = Head::new();
        head.push_number("n", value);
        assert_eq!(head.get("n"), Some(&*value.to_string()));
    }
}

#[test]
fn attachments_are_bounded() {
    let mut head = Head::new();
    (0..1000).for_each(|number| head.push_attachment(&format!("name{number}"), "x"));
    assert_eq!(head.attachments().count(), 256);
    assert_eq!((head.get("name255"), head.get("name256")), (Some("x"), None));
}

#[test]
fn large_requests_leave_little_memory() {
    let mut head = Head::new();
    let large = "x".repeat(1 << 20);
    head.push("interface", &large);
    head.push("path", &large);
    (0..10_000).for_each(|number| head.push(&number.to_string(), ""));
    head.clear();
    let kept = head.text.capacity()
        + head.entries.capacity() * size_of::<Entry>()
        + head.sorted.capacity() * size_of::<usize>();
    assert!(kept <= 2 * MOST_KEPT, "{kept}");
    // What is usual is not allocated again.
    head.push("interface", "org.example.Greeter");
    let text = head.text.as_ptr();
    head.clear();
    head.push("interface", "org.example.Greeter");
    assert_eq!(head.text.as_ptr(), text);
}

#[test]
fn places_are_those_of_the_callers_alone() {
    let mut head = Head::new();
    head.push("path", "own");
    head.push("method", "own");
    assert!(head.push_attachment_at("path", "a", 40) && head.push_attachment_at("user", "é", 0));
    assert!(head.push_attachment_at("source.ip", "forged", 50));
    // Nobody has said that this is all.
    assert_eq!((head.place("path"), head.place("none")), (None, None));
    head.set_room(60);
    head.replace("source.ip", Some("10.0.0.1"));
    let places = ["path", "method", "none", "user", "source.ip"].map(|name| head.place(name));
    let before = Some(Place::Before(60));
    assert_eq!(places, [Some(Place::Over { at: 40, len: 1 }), before, before, None, None]);
    head.clear();
    assert_eq!(head.place("none"), None);
}

/// Names that share their marks, and few enough that they repeat.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![(0..100_u32).prop_map(|number| format!("{number:03}x")), "[a-c]{0,2}"]
}

#[derive(Debug, Clone)]
enum Act {
    Push(String),
    Attach(String),
    Replace(String, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => name().prop_map(Act::Push),
        6 => name().prop_map(Act::Attach),
        1 => (name(), any::<bool>()).prop_map(|(name, is_some)| Act::Replace(name, is_some)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Few or many, attributes are found as two maps would find them.
    #[test]
    fn lookups_agree_with_two_maps(acts in vec(act(), 0..120)) {
        let mut head = Head::new();
        let (mut own, mut attached) = (BTreeMap::new(), BTreeMap::new());
        for (number, act) in acts.iter().enumerate() {
            let value = number.to_string();
            match act {
                Act::Push(name) => {
                    head.push(name, &value);
                    own.entry(name.as_str()).or_insert(value);
                }
                Act::Attach(name) => {
                    assert_eq!(head.has_attachment(name), attached.contains_key(name.as_str()));
                    head.push_attachment(name, &value);
                    attached.entry(name.as_str()).or_insert(value);
                }
                Act::Replace(name, is_some) => {
                    head.replace(name, is_some.then_some(value.as_str()));
                    attached.remove(name.as_str());
                    match is_some {
                        true => own.insert(name.as_str(), value),
                        false => own.remove(name.as_str()),
                    };
                }
            }
        }
        let mut found = attached.clone();
        found.extend(own.clone());
        let to_map = |entries: Vec<(&str, &str)>| {
            let map: BTreeMap<_, _> =
                entries.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(map.len(), entries.len(), "a name occurs twice");
            map
        };
        let expected = |map: &BTreeMap<&str, String>| -> BTreeMap<String, String> {
            map.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
        };
        assert_eq!(to_map(head.iter().collect()), expected(&found));
        assert_eq!(to_map(head.attributes().collect()), expected(&own));
        assert_eq!(to_map(head.attachments().collect()), expected(&attached));
        for name in (0..100).map(|number| format!("{number:03}x")).chain(["a".to_owned(), String::new()]) {
            assert_eq!(head.get(&name), found.get(name.as_str()).map(String::as_str), "{name}");
        }
    }
}
