use std::fs;

use meltemi_codecs::dubbo::Header;
use meltemi_codecs::{Change, Codec, Depth, Dubbo, Edit, Error, Frame, Head, Kind, Outcome, Peer, Step};

use super::{LIMIT, all_vectors, frame, vector, vectors};

/// The kind that a file's name states.
fn expected_kind(name: &str, status: u8, exception: bool) -> Kind {
    match name.rsplit_once('.').unwrap().1 {
        "req" => Kind::Request,
        "req-oneway" => Kind::OneWay,
        "event-req" => Kind::HeartbeatRequest,
        "event-resp" => Kind::HeartbeatResponse,
        "event-req-oneway" if name.starts_with("readonly") => Kind::Drain,
        "event-req-oneway" => Kind::HeartbeatResponse,
        "resp" if status != 20 => Kind::Response(Outcome::Error(status.into())),
        "resp" if exception => Kind::Response(Outcome::Exception),
        "resp" => Kind::Response(Outcome::Success),
        other => panic!("{other}"),
    }
}

#[test]
fn frames_are_split_as_their_index_says() {
    for folder in ["java-2.7.23", "java-3.3.5", "envoy-1.38.2"] {
        let index = fs::read_to_string(format!("vectors/dubbo/{folder}/index.tsv")).unwrap();
        let vectors = vectors(folder);
        assert_eq!(index.lines().count(), vectors.len(), "{folder}");
        for line in index.lines() {
            let mut fields = line.split('\t');
            let file = fields.next().unwrap();
            let field = |name: &str| {
                line.split('\t').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).unwrap()
            };
            let vector = vectors.iter().find(|vector| format!("{}.bin", vector.name) == file).unwrap();
            let header = Header::parse(&vector.bytes).unwrap().unwrap();
            let status: u8 = field("status").parse().unwrap();
            let id: u64 = field("id").parse().unwrap();
            let flags = u8::from_str_radix(field("flag").strip_prefix("0x").unwrap(), 16).unwrap();
            assert_eq!((header.status, header.id, header.flags), (status, id, flags), "{file}");
            let kind = expected_kind(&vector.name, status, vector.name.contains("fail"));
            let len = field("len").parse().unwrap();
            assert_eq!(frame(vector.from, &vector.bytes), Frame { len, head: 16, kind, id }, "{file}");
        }
    }
}

#[test]
fn requests_read_as_another_implementation_reads_them() {
    let short = |value: &str| match value.encode_utf16().count() {
        units @ 201.. => format!("{units} units"),
        _ => value.to_owned(),
    };
    for folder in ["java-2.7.23", "java-3.3.5", "envoy-1.38.2"] {
        let expected = fs::read_to_string(format!("vectors/dubbo/{folder}/expected.tsv")).unwrap();
        for line in expected.lines() {
            let (file, expected) = line.split_once('\t').unwrap();
            let vector = vector(&format!("{folder}/{}", file.strip_suffix(".bin").unwrap()));
            let mut head = Head::new();
            Dubbo.head(&vector.bytes, Depth::Attachments, &mut head).unwrap();
            let own = head
                .attributes()
                .filter(|(name, _)| !matches!(*name, "serialization" | "path" | "genericMethod"));
            let own = own.map(|(name, value)| format!("{name}={}", short(value)));
            let attachments = head.attachments().map(|(name, value)| format!("@{name}={}", short(value)));
            assert_eq!(own.chain(attachments).collect::<Vec<_>>().join("\t"), expected, "{file}");
            assert_eq!(head.get("serialization"), Some("hessian2"));
            assert_eq!(head.get("path"), head.get("interface"));
        }
    }
}

#[test]
fn the_head_alone_has_no_attachments() {
    let vector = vector("java-2.7.23/main-sayHello.c2s.id11.req");
    let mut head = Head::new();
    Dubbo.head(&vector.bytes, Depth::Head, &mut head).unwrap();
    assert_eq!(head.attachments().count(), 0);
    assert_eq!(head.get("method"), Some("sayHello"));
    assert_eq!(head.get("parameterTypes"), Some("Ljava/lang/String;"));
    assert_eq!(head.get("version"), Some("1.0.0"));
    assert_eq!(Dubbo.depth("version"), Depth::Head);
    assert_eq!(Dubbo.depth("x-lane"), Depth::Attachments);
}

#[test]
fn what_names_a_call_is_read_by_itself() {
    assert_eq!(["interface", "method"].map(|name| Dubbo.depth(name)), [Depth::Operation; 2]);
    for vector in all_vectors() {
        let kind = frame(vector.from, &vector.bytes).kind;
        if !matches!(kind, Kind::Request | Kind::OneWay) {
            continue;
        }
        let (mut named, mut known) = (Head::new(), Head::new());
        Dubbo.head(&vector.bytes, Depth::Operation, &mut named).unwrap();
        let _ = Dubbo.head(&vector.bytes, Depth::Attachments, &mut known);
        for name in ["interface", "method"] {
            assert_eq!(named.get(name), known.get(name), "{}", vector.path);
        }
        let is_hessian = known.get("serialization") == Some("hessian2");
        assert!(!is_hessian || named.len() == 2, "{}", vector.path);
    }
}

#[test]
fn a_generic_call_names_its_method() {
    let vector = vector("java-2.7.23/main-$invoke.c2s.id12.req");
    let mut head = Head::new();
    Dubbo.head(&vector.bytes, Depth::Attachments, &mut head).unwrap();
    assert_eq!(head.get("method"), Some("$invoke"));
    assert_eq!(head.get("genericMethod"), Some("sayHello"));
    assert_eq!(head.get("x-lane"), Some("gray"));
    assert_eq!(head.get("generic"), Some("true"));
}

#[test]
fn arguments_of_every_form_are_passed_over() {
    for vector in vectors("hessian-4.0.66") {
        let mut head = Head::new();
        Dubbo
            .head(&vector.bytes, Depth::Attachments, &mut head)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(head.get("method"), Some(vector.name.as_str()));
        assert_eq!(head.get("first"), Some("1"), "{}", vector.name);
        assert_eq!(head.get("last"), Some("é😀"), "{}", vector.name);
        if !vector.name.starts_with("attachments-") {
            assert_eq!(head.attachments().count(), 2, "{}", vector.name);
        }
    }
}

#[test]
fn attachments_of_other_types_are_text_where_they_have_one() {
    let vector = vector("hessian-4.0.66/attachments-mixed");
    let mut head = Head::new();
    Dubbo.head(&vector.bytes, Depth::Attachments, &mut head).unwrap();
    let long = "é".repeat(40_000);
    let expected = [
        ("first", "1"),
        ("number", "42"),
        ("long", "1099511627776"),
        ("double", "2.5"),
        ("flag", "true"),
        ("long-text", &long),
        ("last", "é😀"),
    ];
    assert_eq!(head.attachments().collect::<Vec<_>>(), expected);
}

#[test]
fn responses_tell_what_they_hold() {
    let read = |path: &str| {
        let mut head = Head::new();
        Dubbo.response_head(&vector(path).bytes, &mut head).unwrap();
        head
    };
    let head = read("java-2.7.23/main-getUser.s2c.id3.resp");
    assert_eq!((head.get("result"), head.get("dubbo")), (Some("value"), Some("2.0.2")));
    let head = read("java-2.7.23/main-nothing.s2c.id7.resp");
    assert_eq!((head.get("result"), head.get("dubbo")), (Some("null"), Some("2.0.2")));
    let head = read("java-2.7.23/main-fail.s2c.id8.resp");
    assert_eq!(head.get("result"), Some("exception"));
    assert_eq!(head.get("exception"), Some("java.lang.IllegalStateException"));
    assert_eq!(head.get("message"), Some("fail: x"));
    assert_eq!(head.get("dubbo"), Some("2.0.2"));
    let head = read("java-2.7.23/dubbo2jsclient-fail.s2c.id3.resp");
    assert!(head.get("error").unwrap().contains("org.apache.dubbo"));
    let head = read("envoy-1.38.2/noroute-sayHello.s2c.id0.resp");
    assert!(head.get("error").unwrap().starts_with("dubbo router: no route for interface"));
}

/// Where to cut a frame: everywhere in a small one, around the edges and every so often in a large one.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = (len / 128).max(1);
    (0..len).filter(move |at| at % step == 0 || *at < 64 || len - at < 16)
}

#[test]
fn a_cut_frame_needs_more_and_then_is_the_same() {
    for vector in all_vectors() {
        let whole = frame(vector.from, &vector.bytes);
        assert_eq!(whole.len, vector.bytes.len(), "{}", vector.path);
        for cut in 0..vector.bytes.len() {
            match Dubbo.split(vector.from, &vector.bytes[..cut], LIMIT).unwrap() {
                Step::NeedMore { at_least } => {
                    assert!(cut < at_least && at_least <= whole.len, "{} at {cut}", vector.path);
                }
                other => panic!("{} at {cut}: {other:?}", vector.path),
            }
        }
        let mut two = vector.bytes.clone();
        two.extend_from_slice(&vector.bytes);
        assert_eq!(frame(vector.from, &two), whole);
    }
}

#[test]
fn a_shortened_body_is_an_error_or_less_but_never_a_panic() {
    for vector in all_vectors() {
        let mut head = Head::new();
        for cut in cuts(vector.bytes.len()).filter(|cut| *cut >= 16) {
            let mut bytes = vector.bytes[..cut].to_vec();
            bytes[12..16].copy_from_slice(&u32::try_from(cut - 16).unwrap().to_be_bytes());
            let frame = frame(vector.from, &bytes);
            assert_eq!(frame.len, cut);
            if matches!(frame.kind, Kind::Request | Kind::OneWay)
                && let Err(error) = Dubbo.head(&bytes, Depth::Attachments, &mut head)
            {
                assert!(offset(&error) <= cut, "{} at {cut}: {error}", vector.path);
            }
            let _ = Dubbo.response_head(&bytes, &mut head);
            let mut out = Vec::new();
            let changes = [Change::set("k", "v")];
            if Dubbo
                .rewrite(&bytes, &Edit { id: Some(1), changes: &changes, ..Edit::default() }, &mut out)
                .is_err()
            {
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn what_a_front_says_holds_for_the_whole() {
    let (mut requests, mut responses) = (0, 0);
    for vector in all_vectors() {
        let whole = frame(vector.from, &vector.bytes);
        let mut expected = Vec::new();
        Dubbo.rewrite(&vector.bytes, &Edit { id: Some(99), ..Edit::default() }, &mut expected).unwrap();
        for cut in cuts(vector.bytes.len() + 1) {
            let mut head = Head::new();
            let (front, rest) = vector.bytes.split_at(cut);
            let Some(said) = Dubbo.front(vector.from, front, LIMIT, &mut head) else { continue };
            assert_eq!(said, whole, "{} at {cut}", vector.path);
            assert!(!rest.is_empty());
            assert_eq!(Dubbo.front(vector.from, front, whole.len - 1, &mut Head::new()), None);
            let mut out = Vec::new();
            Dubbo.rewrite(front, &Edit { id: Some(99), ..Edit::default() }, &mut out).unwrap();
            assert_eq!([&out, rest].concat(), expected, "{} at {cut}", vector.path);
            if let Kind::Response(_) = whole.kind {
                responses += 1;
                continue;
            }
            requests += 1;
            let mut known = Head::new();
            Dubbo.head(&vector.bytes, Depth::Head, &mut known).unwrap();
            let [said, known] = [&head, &known].map(|head| head.iter().collect::<Vec<_>>());
            assert_eq!(said, known, "{} at {cut}", vector.path);
        }
    }
    assert!(requests > 1000 && responses > 1000, "{requests} and {responses} fronts");
}

fn offset(error: &Error) -> usize {
    match error {
        Error::Malformed { offset, .. } | Error::Unsupported { offset, .. } => *offset,
        other => panic!("{other}"),
    }
}

#[test]
fn fastjson2_requests_tell_all_that_hessian_ones_do() {
    let requests = vectors("java-3.3.5").into_iter().filter(|vector| vector.name.ends_with(".req"));
    let mut seen = 0;
    for vector in requests.filter(|vector| vector.bytes[2] & 0x1f == 23 && vector.from == Peer::Client) {
        let mut head = Head::new();
        Dubbo.head(&vector.bytes, Depth::Attachments, &mut head).unwrap();
        assert_eq!(head.get("serialization"), Some("fastjson2"));
        assert_eq!(head.get("interface"), Some("org.example.DemoService"));
        let method = vector.name.split_once('.').unwrap().0.rsplit_once('-').unwrap().1;
        assert_eq!(head.get("method"), Some(method));
        assert_eq!(head.get("x-lane"), Some("gray"), "{}", vector.name);
        seen += 1;
    }
    assert!(seen > 3);
}
