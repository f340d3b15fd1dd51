//! What every codec promises whatever the bytes, as functions for fuzz targets. They panic when a promise is broken.
mod choices;
mod front;
mod java;
mod places;
mod verified;

pub use choices::Choices;
pub use front::fuzz_front;
pub use verified::fuzz_verified;

use places::check_places;

use crate::dubbo::Header;
use crate::{
    Action, Brpc, Change, Codec, Depth, Dubbo, Edit, Error, Failure, Head, Kind, Outcome, Peer, Step, Thrift,
    Trpc,
};

const LIMIT: usize = 1 << 20;

/// Feeds `data` to the Dubbo codec twice: as it is, and with magic and length made right.
pub fn fuzz_dubbo(data: &[u8]) {
    fuzz_codec(&Dubbo, data);
    let (Some(&[flags, status]), Some(body)) =
        (data.get(2..4).and_then(|bytes| bytes.as_array()), data.get(16..))
    else {
        return;
    };
    let mut frame = Vec::new();
    Header { flags, status, id: 7, length: u32::try_from(body.len()).unwrap_or_default() }.write(&mut frame);
    frame.extend_from_slice(body);
    fuzz_codec(&Dubbo, &frame);
    let mut head = Head::new();
    let _ = Dubbo.response_head(&frame, &mut head);
    let _ = crate::dubbo::message::read_arguments(&frame);
    let _ = crate::dubbo::message::read_answer(&frame);
}

/// Feeds `data` to the Thrift codec: as it is, as a frame, and behind each kind of header with its length made right.
pub fn fuzz_thrift(data: &[u8]) {
    fuzz_codec(&Thrift, data);
    let _ = crate::thrift::Message::read(data);
    let mut frame = Vec::new();
    for front in [&[][..], &[0x0f, 0xff], &[0x10, 0x00]] {
        frame.clear();
        let len = front.len().saturating_add(data.len());
        frame.extend_from_slice(&u32::try_from(len).unwrap_or_default().to_be_bytes());
        frame.extend_from_slice(front);
        frame.extend_from_slice(data);
        fuzz_codec(&Thrift, &frame);
    }
}

/// Feeds `data` to the brpc codec twice: as it is, and as what follows a meta's length, its first byte.
pub fn fuzz_brpc(data: &[u8]) {
    fuzz_codec(&Brpc, data);
    let Some((&meta, body)) = data.split_first() else { return };
    let mut frame = b"PRPC".to_vec();
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
    frame.extend_from_slice(&u32::from(meta).to_be_bytes());
    frame.extend_from_slice(body);
    fuzz_codec(&Brpc, &frame);
    let _ = Brpc.response_head(&frame, &mut Head::new());
}

/// Feeds `data` to the tRPC codec twice: as it is, and as what follows the types of frame and the message's length.
pub fn fuzz_trpc(data: &[u8]) {
    fuzz_codec(&Trpc, data);
    let Some((&[frame, stream, message], body)) = data.split_first_chunk() else { return };
    let mut bytes = vec![0x09, 0x30, frame % 2, stream % 5];
    let len = u32::try_from(body.len()).unwrap_or_default().saturating_add(16);
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&[0, message, 0, 0, 0, 7, 0, 0]);
    bytes.extend_from_slice(body);
    fuzz_codec(&Trpc, &bytes);
    let _ = Trpc.response_head(&bytes, &mut Head::new());
}

/// Feeds `input` to `codec` from both peers, and does with each frame in it all that the proxy may.
pub fn fuzz_codec(codec: &dyn Codec, input: &[u8]) {
    feed(codec, input, true);
}

/// As [`fuzz_codec`] does, for a protocol that has no answer to what fails on the way.
pub fn fuzz_silent(codec: &dyn Codec, input: &[u8]) {
    feed(codec, input, false);
}

fn feed(codec: &dyn Codec, input: &[u8], answers: bool) {
    for from in [Peer::Client, Peer::Server] {
        let mut rest = input;
        // Frames of one byte would make this quadratic.
        for _ in 0..64 {
            match codec.split(from, rest, LIMIT) {
                Ok(Step::Frame(frame)) => {
                    assert!(frame.len > 0 && frame.len <= rest.len() && frame.head <= frame.len, "{frame:?}");
                    let (bytes, after) = rest.split_at(frame.len);
                    check_frame(codec, from, bytes, (frame.kind, frame.id), answers);
                    rest = after;
                }
                Ok(Step::NeedMore { at_least }) => {
                    assert!(at_least > rest.len(), "{at_least} of {}", rest.len());
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

fn check_frame(codec: &dyn Codec, from: Peer, bytes: &[u8], (kind, id): (Kind, u64), answers: bool) {
    let whole = codec.split(from, bytes, LIMIT);
    let Ok(Step::Frame(frame)) = whole else { panic_on("a frame is one on its own", &whole) };
    let cuts = [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)];
    for cut in cuts.into_iter().filter(|&cut| cut < bytes.len()) {
        let cut = codec.split(from, bytes.get(..cut).unwrap_or_default(), LIMIT);
        assert!(matches!(cut, Ok(Step::NeedMore { at_least }) if at_least <= bytes.len()), "{cut:?}");
    }

    let mut head = Head::new();
    if is_request(kind) {
        let _ = codec.head(bytes, Depth::Head, &mut head);
        let front: Vec<_> =
            head.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let _ = codec.head(bytes, Depth::Operation, &mut head);
        let is_of_front = |(name, value): (&str, &str)| front.iter().any(|(n, v)| n == name && v == value);
        assert!(head.iter().all(is_of_front), "{:?}", head.iter().collect::<Vec<_>>());
        for (name, _) in front.iter().filter(|(name, _)| codec.depth(name) == Depth::Operation) {
            assert!(head.get(name).is_some(), "{name}");
        }
        let _ = codec.head(bytes, Depth::Attachments, &mut head);
        for (name, value) in &front {
            assert!(codec.depth(name) <= Depth::Head, "{name}");
            assert!(head.attributes().any(|entry| entry == (name, value)), "{name}");
        }
        let told: Vec<_> = head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if codec.head(bytes, Depth::Verified, &mut head).is_ok() {
            assert!(head.iter().all(|(name, value)| told.iter().any(|(n, v)| n == name && v == value)));
        }
    }

    let mut out = b"before".to_vec();
    let other = !id & codec.max_id();
    let edit = Edit { id: Some(other), ..Edit::default() };
    let rewritten = codec.rewrite(bytes, &edit, &mut out);
    assert!(rewritten.is_ok(), "{rewritten:?}");
    let out = out.strip_prefix(b"before").unwrap_or_default();
    let again = codec.split(from, out, LIMIT.saturating_mul(2));
    let Ok(Step::Frame(again)) = again else { panic_on("a rewritten frame is a frame", &again) };
    assert_eq!((again.len, again.id), (out.len(), other));
    // Kitex tells what is no answer by its id.
    assert!(again.kind == kind || matches!(kind, Kind::Drain | Kind::Last(_)), "{kind:?}");

    check_edit(codec, from, bytes, kind);
    if is_request(kind) {
        check_places(codec, bytes);
    }
    fuzz_front(codec, from, bytes);
    if !answers && frame.kind == Kind::Request {
        codec.error_reply(bytes, Failure::Timeout, "", &mut Vec::new());
        return;
    }
    check_replies(codec, bytes.get(..frame.head).unwrap_or_default(), bytes, frame.kind, id);
}

fn is_request(kind: Kind) -> bool {
    matches!(kind, Kind::Request | Kind::OneWay | Kind::Opened | Kind::Refused(_))
}

fn check_edit(codec: &dyn Codec, from: Peer, bytes: &[u8], kind: Kind) {
    let change = |name: &str, action| Change { action, ..Change::set(name, "é😀") };
    let changes = [
        Change::set("k", "é😀"),
        Change::remove("path"),
        change("group", Action::AddIfAbsent),
        change("tag", Action::Append),
    ];
    let mut out = b"before".to_vec();
    let edited = codec.rewrite(bytes, &Edit { changes: &changes, ..Edit::default() }, &mut out);
    let out = out.strip_prefix(b"before").unwrap_or_default();
    if edited.is_err() {
        assert!(out.is_empty());
        return;
    }
    let again = codec.split(from, out, LIMIT.saturating_mul(2));
    let Ok(Step::Frame(again)) = again else { panic_on("an edited frame is a frame", &again) };
    assert_eq!((again.len, again.kind), (out.len(), kind));
    if !matches!(kind, Kind::Request | Kind::OneWay | Kind::Opened) {
        return;
    }
    let (mut before, mut after) = (Head::new(), Head::new());
    if codec.head(bytes, Depth::Attachments, &mut before).is_err() {
        // Some limit of reading that editing does not have.
        return;
    }
    let read = codec.head(out, Depth::Attachments, &mut after);
    if matches!(read, Err(Error::Unsupported { what: "number of attachments", .. })) {
        // One more than is read.
        return;
    }
    assert_eq!(read, Ok(()));
    let kept = |head: &Head| -> Vec<_> {
        let is_kept = |name: &str| !matches!(name, "k" | "path" | "group" | "tag");
        head.attachments()
            .filter(|(name, _)| is_kept(name))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    };
    assert_eq!(kept(&after), kept(&before));
    let value = |head: &Head, name| {
        let found = head.attachments().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_owned())
    };
    assert_eq!((value(&after, "k").as_deref(), value(&after, "path")), (Some("é😀"), None));
    // What is there but no text is not in the head.
    if let Some(group) = value(&before, "group") {
        assert_eq!(value(&after, "group"), Some(group));
    }
    if let Some(tag) = value(&before, "tag") {
        let comma = if tag.is_empty() { "" } else { "," };
        assert_eq!(value(&after, "tag"), Some(format!("{tag}{comma}é😀")));
    }
    assert_eq!(after.attributes().collect::<Vec<_>>(), before.attributes().collect::<Vec<_>>());
}

fn check_replies(codec: &dyn Codec, head: &[u8], bytes: &[u8], kind: Kind, id: u64) {
    let mut out = Vec::new();
    match kind {
        Kind::Request | Kind::Opened | Kind::Refused(_) => {
            codec.error_reply(head, Failure::Timeout, "é😀", &mut out)
        }
        Kind::HeartbeatRequest => codec.heartbeat_reply(bytes, &mut out),
        _ => return,
    }
    let reply = codec.split(Peer::Server, &out, LIMIT);
    let Ok(Step::Frame(reply)) = reply else { panic_on("a reply is a frame", &reply) };
    // A client may have given more than an id of the proxy's has.
    let most = codec.max_id();
    assert_eq!((reply.len, reply.id & most), (out.len(), id & most));
    match kind {
        Kind::Request | Kind::Opened | Kind::Refused(_) => {
            assert!(matches!(reply.kind, Kind::Response(Outcome::Error(_)) | Kind::Reset(Outcome::Error(_))));
        }
        _ => assert_eq!(reply.kind, Kind::HeartbeatResponse),
    }
}

#[allow(clippy::panic)]
fn panic_on(promise: &str, found: &dyn std::fmt::Debug) -> ! {
    panic!("{promise}: {found:?}")
}

#[cfg(test)]
mod tests {
    use std::{fs, path};

    use super::{fuzz_brpc, fuzz_dubbo, fuzz_thrift, fuzz_trpc};

    /// Feeds every vector of a protocol to its fuzz target; how many there are.
    fn feed(protocol: &str, fuzz: fn(&[u8])) -> usize {
        let root = path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(protocol);
        let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.filter(|folder| folder.is_dir()).flat_map(|folder| fs::read_dir(folder).unwrap());
        let files = files.map(|entry| entry.unwrap().path());
        let frames = files.filter(|file| file.extension().is_some_and(|extension| extension == "bin"));
        frames.map(|file| fuzz(&fs::read(file).unwrap())).count()
    }

    #[test]
    fn the_vectors_keep_every_promise() {
        assert!(feed("dubbo", fuzz_dubbo) > 100);
        assert!(feed("thrift", fuzz_thrift) > 90);
        assert!(feed("brpc", fuzz_brpc) > 10);
        assert!(feed("trpc", fuzz_trpc) > 30);
    }
}
