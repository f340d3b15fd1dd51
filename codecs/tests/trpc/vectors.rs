use std::fs;

use meltemi_codecs::fuzz::fuzz_front;
use meltemi_codecs::{Codec, Depth, Failure, Head, Kind, Outcome, Peer, Step, Trpc};

use super::{FOLDERS, LIMIT, all_vectors, entries, frame, head, hello, unary, vector, vectors};

/// The kind that a line of an index states.
fn expected_kind(field: &dyn Fn(&str) -> String, is_request: bool) -> Kind {
    let number = |name: &str| field(name).parse::<u32>().unwrap();
    let outcome = || match (number("ret"), number("func_ret")) {
        (0, 0) => Outcome::Success,
        (0, _) => Outcome::Exception,
        (ret, _) => Outcome::Error(ret),
    };
    match (&*field("kind"), is_request) {
        ("unary", true) if field("call_type") == "1" => Kind::OneWay,
        ("unary", true) => Kind::Request,
        ("unary", false) => Kind::Response(outcome()),
        ("init", true) => Kind::Opened,
        ("init", false) if field("ret") == "0" => Kind::Continued,
        ("init", false) => Kind::Reset(outcome()),
        ("data" | "feedback", _) => Kind::Continued,
        // trpc-java closes what failed, and resets nothing.
        ("close", _) if field("close_type") == "1" || field("ret") != "0" => Kind::Reset(outcome()),
        ("close", _) => Kind::Ended(outcome()),
        (other, _) => panic!("{other}"),
    }
}

/// The part of an id that is in the message; trpc-java has 0 in the header of unary calls, whatever that is.
fn of_message(id: u64) -> u64 {
    id & u64::from(u32::MAX)
}

#[test]
fn frames_are_as_their_index_says() {
    for folder in FOLDERS {
        let index = fs::read_to_string(format!("vectors/trpc/{folder}/index.tsv")).unwrap();
        let vectors = vectors(folder);
        assert_eq!(index.lines().count(), vectors.len());
        for line in index.lines() {
            let file = line.split('\t').next().unwrap();
            let field = |name: &str| {
                let mut fields = line.split('\t');
                let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
                value.unwrap_or_else(|| panic!("{file}: {name}")).to_owned()
            };
            let vector = vectors.iter().find(|vector| format!("{}.bin", vector.name) == file).unwrap();
            let found = frame(vector.from, &vector.bytes);
            assert_eq!(
                (found.len.to_string(), of_message(found.id).to_string()),
                (field("len"), field("id")),
                "{folder} {file}"
            );
            let is_request = vector.from == Peer::Client;
            assert_eq!(found.kind, expected_kind(&field, is_request), "{folder} {file}");
            let mut head = Head::new();
            match found.kind {
                Kind::Request | Kind::OneWay | Kind::Opened => {
                    Trpc.head(&vector.bytes, Depth::Verified, &mut head).unwrap();
                    for name in ["func", "callee"] {
                        assert_eq!(head.get(name), Some(&*field(name)), "{folder} {file}");
                    }
                    assert_eq!(head.get("timeout").unwrap_or("0"), field("timeout"), "{folder} {file}");
                }
                Kind::Response(_) => {
                    Trpc.response_head(&vector.bytes, &mut head).unwrap();
                    assert_eq!(head.get("error").unwrap_or_default(), field("msg"), "{folder} {file}");
                }
                _ => continue,
            }
            let mut told: Vec<_> =
                head.attachments().map(|(name, value)| format!("{name}={value}")).collect();
            told.sort();
            assert_eq!(told.join(" "), field("info"), "{folder} {file}");
        }
    }
}

#[test]
fn frames_of_streams_are_told_apart() {
    let ended = |outcome| Kind::Ended(outcome);
    for (name, kind) in [
        ("stream-init.req", Kind::Opened),
        ("stream-data.req", Kind::Continued),
        ("stream-close.req", ended(Outcome::Success)),
        ("stream-init.resp", Kind::Continued),
        ("stream-feedback.resp", Kind::Continued),
        ("stream-reset.resp", Kind::Reset(Outcome::Error(201))),
    ] {
        let vector = vector(name);
        let found = frame(vector.from, &vector.bytes);
        assert_eq!((found.kind, found.id, found.head), (kind, 100, 16), "{name}");
    }
    let own = [
        ("caller", "trpc.test.client.caller"),
        ("callee", "trpc.test.helloworld.Greeter"),
        ("func", "/trpc.test.helloworld.Greeter/Stream"),
        ("service", "trpc.test.helloworld.Greeter"),
        ("method", "Stream"),
        ("callType", "stream"),
    ];
    let told = head(&vector("stream-init.req").bytes, Depth::Verified).unwrap();
    assert_eq!(told, entries(&own));
}

#[test]
fn fields_and_entries_are_attributes() {
    let mut request = hello();
    request.timeout = 800;
    request.message_type = 3;
    request.trans_info.insert("trpc-dyeing-key".to_owned(), "é😀".into());
    let own = [
        ("caller", "trpc.a.b.c"),
        ("callee", "trpc.d.e.f"),
        ("func", "/trpc.helloworld.Greeter/Hello"),
        ("service", "trpc.helloworld.Greeter"),
        ("method", "Hello"),
        ("callType", "unary"),
        ("messageType", "3"),
        ("dyeing", "true"),
        ("timeout", "800"),
    ];
    let bytes = unary(&request, 7, b"body");
    assert_eq!(head(&bytes, Depth::Head).unwrap(), entries(&own));
    let all = entries(&[&own[..], &[("trpc-dyeing-key", "é😀")]].concat());
    assert_eq!(head(&bytes, Depth::Attachments).unwrap(), all);
    assert_eq!(head(&bytes, Depth::Verified).unwrap(), all);
    assert!(own.iter().all(|(name, _)| Trpc.depth(name) == Depth::Head));
    assert_eq!(Trpc.depth("trpc-dyeing-key"), Depth::Attachments);
    // A name without the usual form, and bytes that are no text.
    request.func = b"ping".to_vec();
    request.trans_info.insert("bytes".to_owned(), vec![0xff]);
    let told = head(&unary(&request, 7, &[]), Depth::Attachments).unwrap();
    assert!(told.contains(&("method".to_owned(), "ping".to_owned())));
    assert!(told.iter().all(|(name, _)| name != "service" && name != "bytes"), "{told:?}");
}

#[test]
fn what_answers_need_ends_with_the_id() {
    for vector in all_vectors() {
        let found = frame(vector.from, &vector.bytes);
        assert!(found.head <= found.len && found.head < 32, "{}: {found:?}", vector.name);
        if matches!(found.kind, Kind::Request | Kind::Opened) {
            let (mut whole, mut front) = (Vec::new(), Vec::new());
            Trpc.error_reply(&vector.bytes, Failure::Timeout, "x", &mut whole);
            Trpc.error_reply(&vector.bytes[..found.head], Failure::Timeout, "x", &mut front);
            assert_eq!(whole, front, "{}", vector.name);
            assert_eq!(of_message(frame(Peer::Server, &whole).id), of_message(found.id), "{}", vector.name);
        }
    }
}

/// Where to cut a frame: everywhere in a small one, around the edges and every so often in a large one.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = (len / 128).max(1);
    (0..len).filter(move |at| at % step == 0 || *at < 160 || len - at < 16)
}

#[test]
fn a_cut_frame_needs_more_and_then_is_the_same() {
    for vector in all_vectors() {
        let whole = frame(vector.from, &vector.bytes);
        assert_eq!(whole.len, vector.bytes.len(), "{}", vector.name);
        for cut in cuts(vector.bytes.len()) {
            match Trpc.split(vector.from, &vector.bytes[..cut], LIMIT).unwrap() {
                Step::NeedMore { at_least } => {
                    assert!(cut < at_least && at_least <= whole.len, "{} at {cut}", vector.name);
                }
                other @ Step::Frame(_) => panic!("{} at {cut}: {other:?}", vector.name),
            }
        }
        let mut two = vector.bytes.clone();
        two.extend_from_slice(&vector.bytes);
        assert_eq!(frame(vector.from, &two), whole);
    }
}

#[test]
fn what_a_front_says_holds_for_the_whole() {
    let (mut requests, mut responses) = (0, 0);
    for vector in all_vectors() {
        let fronts = fuzz_front(&Trpc, vector.from, &vector.bytes);
        match frame(vector.from, &vector.bytes).kind {
            Kind::Request | Kind::OneWay => requests += fronts,
            Kind::Response(_) => responses += fronts,
            _ => assert_eq!(fronts, 0, "{}", vector.name),
        }
    }
    assert!(requests > 10 && responses > 10, "{requests} and {responses} fronts");
}
