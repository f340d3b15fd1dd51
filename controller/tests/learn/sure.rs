//! What is said to be sure of a few kinds of calls, held against the protocol's own codec on all its calls.

use std::path::Path;
use std::rc::Rc;

use meltemi::decode;
use meltemi::learn::{self, Wish};
use meltemi_codecs::{Codec, Codecs, Depth, Edit, Head, Kind, Layout, Peer, Step};
use meltemi_proxy::plan::{self, raw};

use crate::talks::{Talks, capture, protocols};

const LIMIT: usize = 1 << 24;

/// The protocol as somebody wrote it down.
fn codec(name: &str) -> Rc<dyn Codec> {
    if let Some(codec) = Codecs::all().get(name.split(['-', '/']).next().unwrap()) {
        return codec.clone();
    }
    if name.contains('-') {
        return Codecs::all().get("thrift").unwrap().clone();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/layouts/{name}.yaml"));
    Rc::new(decode::layout::read(&path).unwrap())
}

/// A frame, and what it is.
#[derive(Clone)]
struct Frame {
    from: Peer,
    kind: Kind,
    id: u64,
    bytes: Vec<u8>,
}

fn frames(codec: &dyn Codec, talks: &Talks) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (is_request, bytes) in talks.iter().flatten() {
        let from = if *is_request { Peer::Client } else { Peer::Server };
        let Step::Frame(frame) = codec.split(from, bytes, LIMIT).unwrap() else { panic!("a frame") };
        assert_eq!(frame.len, bytes.len());
        frames.push(Frame { from, kind: frame.kind, id: frame.id, bytes: bytes.clone() });
    }
    frames
}

/// Requests, each with its answer if it has one.
fn calls(frames: &[Frame]) -> Vec<(Frame, Option<Frame>)> {
    let is_call = |frame: &&Frame| {
        frame.from == Peer::Client
            && matches!(frame.kind, Kind::Request | Kind::OneWay | Kind::HeartbeatRequest)
    };
    let answer = |request: &Frame| {
        let is_answer = |frame: &&Frame| frame.from == Peer::Server && frame.id == request.id;
        let at = frames.iter().position(|frame| std::ptr::eq(frame, request)).unwrap();
        frames[at..].iter().find(is_answer).filter(|_| request.kind != Kind::OneWay).cloned()
    };
    frames.iter().filter(is_call).map(|request| (request.clone(), answer(request))).collect()
}

fn with_id(codec: &dyn Codec, frame: &Frame, id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    match codec.rewrite(&frame.bytes, &Edit { id: Some(id), ..Edit::default() }, &mut out) {
        Ok(_) => out,
        Err(_) => frame.bytes.clone(),
    }
}

/// The fields that are said to be sure.
fn sure(text: &str) -> Vec<&str> {
    let reasons = text.lines().filter_map(|line| line.strip_prefix("# ")?.strip_suffix(": sure"));
    reasons.filter_map(|reason| reason.split_once(": ").map(|(field, _)| field)).collect()
}

fn layout(raw: &raw::Layout) -> Layout {
    plan::layout("learnt", raw).unwrap()
}

/// What is wrong with a field on some frame of the protocol; nothing if it holds on all.
fn wrong(field: &str, raw: &raw::Layout, all: &[Frame]) -> Option<String> {
    // A varint has its place after the magic.
    let is_varint = raw.length.as_ref().is_some_and(|length| length.coding == "varint");
    let framing = || raw::Layout {
        magic: raw.magic.clone().filter(|_| is_varint),
        length: raw.length.clone(),
        header: raw.header,
        parts: raw.parts.clone(),
        ..raw::Layout::default()
    };
    let split = |layout: &Layout, frame: &Frame| layout.split(frame.from, &frame.bytes, LIMIT);
    let is_framed = |layout: &Layout, frame: &Frame| matches!(split(layout, frame), Ok(Step::Frame(found)) if found.len == frame.bytes.len());
    let of = |from: Peer| all.iter().filter(move |frame| frame.from == from);
    match field {
        "magic" => {
            let magic = raw.magic.as_deref().unwrap();
            let magic: Vec<u8> = (0..magic.len() / 2)
                .map(|at| u8::from_str_radix(&magic[at * 2..at * 2 + 2], 16).unwrap())
                .collect();
            let has_it = |frame: &&Frame| frame.bytes[raw.magic_at as usize..].starts_with(&magic);
            (!all.iter().all(|frame| has_it(&frame))).then(|| "some frames have no such magic".to_owned())
        }
        "length" => {
            let bare = layout(&raw::Layout {
                kind: raw.response.as_ref().and(raw.kind.clone()),
                response: raw.response.clone(),
                header: None,
                parts: Vec::new(),
                ..framing()
            });
            all.iter().find(|frame| !is_framed(&bare, frame)).map(|frame| format!("{:02x?}", frame.bytes))
        }
        "header" | "response" => {
            let whole = layout(raw);
            let from = if field == "header" { Peer::Client } else { Peer::Server };
            let broken = of(from).find(|frame| !is_framed(&whole, frame));
            broken.map(|frame| format!("{:?} {:02x?}", split(&whole, frame), frame.bytes))
        }
        "id" => {
            let needs_parts = raw.length.is_none() || raw.id.as_ref().is_some_and(|id| id.part.is_some());
            let parts = if needs_parts { raw.parts.clone() } else { Vec::new() };
            let (kind, response) = (raw.response.as_ref().and(raw.kind.clone()), raw.response.clone());
            let layout = layout(&raw::Layout { id: raw.id.clone(), parts, kind, response, ..framing() });
            let id = |frame: &Frame| match split(&layout, frame) {
                Ok(Step::Frame(found)) => Some(found.id),
                _ => None,
            };
            let broken = all.iter().find(|frame| id(frame) != Some(frame.id));
            broken.map(|frame| format!("{:?} is {:?} {:02x?}", frame.id, id(frame), frame.bytes))
        }
        "kind" => {
            let needs_parts =
                raw.length.is_none() || raw.kind.as_ref().is_some_and(|kind| kind.part.is_some());
            let parts = if needs_parts { raw.parts.clone() } else { Vec::new() };
            let (kind, response) = (raw.kind.clone(), raw.response.clone());
            let heartbeat_reply = raw.heartbeat_reply.clone();
            let id = raw.id.clone().filter(|_| heartbeat_reply.is_some());
            let whole = layout(&raw::Layout { id, parts, kind, response, heartbeat_reply, ..framing() });
            let broken = all.iter().find_map(|frame| {
                let found = match split(&whole, frame) {
                    Ok(Step::Frame(found)) => found.kind,
                    other => return Some((frame, format!("{other:?}"))),
                };
                let is_right = match (frame.kind, found) {
                    // What was not seen is a request.
                    (Kind::HeartbeatRequest | Kind::OneWay, Kind::Request) => true,
                    (Kind::HeartbeatResponse, Kind::Response(_)) => true,
                    // A layout takes a server's signs of life for answers to those of clients.
                    (Kind::HeartbeatRequest, Kind::HeartbeatResponse) => frame.from == Peer::Server,
                    (Kind::Response(_), Kind::Response(_)) => true,
                    (truth, found) => truth == found,
                };
                (!is_right).then(|| (frame, format!("{:?} is {found:?}", frame.kind)))
            });
            broken.map(|(frame, why)| format!("{why} {:02x?}", frame.bytes))
        }
        "parts" => {
            let whole = layout(raw);
            let mut head = Head::new();
            let mut calls = of(Peer::Client).filter(|frame| frame.kind == Kind::Request);
            let broken = calls.find(|frame| whole.head(&frame.bytes, Depth::Attachments, &mut head).is_err());
            broken.map(|frame| format!("{:02x?}", frame.bytes))
        }
        other => panic!("{other} is sure, and nothing checks it"),
    }
}

/// Calls of a few kinds, over and over: much of what differs between frames does so by chance.
#[test]
fn nothing_is_sure_that_is_wrong() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % below
    };
    let (mut learnt, mut stated, mut faults) = (0, 0, Vec::new());
    for (name, talks) in protocols() {
        let codec = codec(name);
        let all = frames(&*codec, &talks);
        let calls = calls(&all);
        for round in 0..24 {
            let kinds: Vec<_> =
                (0..1 + round * calls.len() / 12).map(|_| &calls[random(calls.len())]).collect();
            let base = [1, 100, 0x0012_3456][random(3)];
            let talk = (0..8 + random(40) as u64).flat_map(|number| {
                let (request, answer) = kinds[random(kinds.len())];
                let frame = |is_request, frame: &Frame| (is_request, with_id(&*codec, frame, base + number));
                let answer = answer.as_ref().map(|answer| frame(false, answer));
                core::iter::once(frame(true, request)).chain(answer).collect::<Vec<_>>()
            });
            let (text, _) = learn::learn(capture(&[talk.collect()]).bytes(), &Wish::default());
            let Some(text) = text else { continue };
            learnt += 1;
            let raw: raw::Layout = serde_saphyr::from_str(&text).unwrap();
            for field in sure(&text) {
                stated += 1;
                if let Some(why) = wrong(field, &raw, &all) {
                    faults.push(format!("{name} {round} {field}: {why}\n{text}"));
                }
            }
        }
    }
    println!("{learnt} layouts, {stated} times sure, {} times wrong", faults.len());
    assert!(learnt > 100 && stated > 100, "{learnt} layouts, {stated} times sure");
    assert!(faults.is_empty(), "{} of {stated}:\n{}", faults.len(), faults.join("\n"));
}

/// Two protocols on one port: what is sure is so of one of them.
#[test]
fn nothing_is_sure_that_is_wrong_of_both_of_two_protocols() {
    let protocols = protocols();
    let (mut learnt, mut faults) = (0, Vec::new());
    for (one, talks) in &protocols {
        for (other, more) in &protocols {
            // Thrift's forms are frames of one kind to each other.
            let are_alike = codec(one).name() == codec(other).name();
            if one == other || are_alike {
                continue;
            }
            let mixed = [&talks[..], more].concat();
            let (text, _) = learn::learn(capture(&mixed).bytes(), &Wish::default());
            let Some(text) = text else { continue };
            learnt += 1;
            let raw: raw::Layout = serde_saphyr::from_str(&text).unwrap();
            let is_wrong = |name: &str, talks: &Talks| {
                let all = frames(&*codec(name), talks);
                sure(&text).into_iter().any(|field| wrong(field, &raw, &all).is_some())
            };
            if is_wrong(one, talks) && is_wrong(other, more) {
                faults.push(format!("{one} and {other}:\n{text}"));
            }
        }
    }
    println!("{learnt} layouts of two protocols, {} wrong of both", faults.len());
    assert!(learnt > 20, "{learnt}");
    assert!(faults.is_empty(), "{} of {learnt}:\n{}", faults.len(), faults.join("\n"));
}
