use std::fs;

use meltemi_codecs::thrift::Message;
use meltemi_codecs::{Codec, Depth, Frame, Head, Kind, Outcome, Peer, Step, Thrift};

use super::{FOLDERS, LIMIT, all_vectors, entries, files, frame, pairs, vector};

/// The kind that type and name of a message state.
fn expected_kind(kind: &str, name: &str, file: &str) -> Kind {
    match kind {
        "1" => Kind::Request,
        "4" => Kind::OneWay,
        "2" if name == "fail" => Kind::Response(Outcome::Exception),
        "2" if file.starts_with("ttheader-stopping") => Kind::Drain,
        "2" => Kind::Response(Outcome::Success),
        other => {
            let status = other.strip_prefix("3.").unwrap();
            Kind::Response(Outcome::Error(status.parse().unwrap()))
        }
    }
}

#[test]
fn frames_read_as_thrift_itself_reads_them() {
    for folder in FOLDERS {
        let index = fs::read_to_string(format!("vectors/thrift/{folder}/index.tsv")).unwrap();
        let vectors = files(folder, false);
        assert_eq!(index.lines().count(), vectors.len(), "{folder}");
        for (line, vector) in index.lines().zip(vectors) {
            let mut fields = line.split('\t');
            let mut field = || fields.next().unwrap();
            let (file, len, kind, id, name) = (field(), field(), field(), field(), field());
            assert_eq!(file, format!("{}.bin", vector.name));
            let found = frame(vector.from, &vector.bytes);
            let expected = match expected_kind(kind, name, file) {
                // Kitex has not found the method.
                Kind::Response(outcome) if line.contains("crrst=1") => Kind::Last(outcome),
                kind => kind,
            };
            let (len, id) = (len.parse().unwrap(), id.parse().unwrap());
            assert_eq!(found, Frame { len, head: found.head, kind: expected, id }, "{file}");
            let message = Message::read(&vector.bytes).unwrap();
            assert_eq!((&*message.name, u64::from(message.id)), (name, id), "{file}");
            let headers = message.headers.iter().map(|(name, value)| format!("{name}={value}"));
            let renamed = |header: &str| {
                let names = [
                    ("1=", "transportType="),
                    ("2=", "logId="),
                    ("3=", "fromService="),
                    ("6=", "toService="),
                    ("9=", "toMethod="),
                    ("12=", "rpcTimeout="),
                    ("17=", "connectTimeout="),
                    ("20=", "fromMethod="),
                    ("22=", "msgType="),
                ];
                let known = names.iter().find(|(number, _)| header.starts_with(number));
                known.map_or(header.to_owned(), |(number, name)| header.replacen(number, name, 1))
            };
            let mut headers: Vec<_> = headers.collect();
            if file.starts_with("header") {
                // Thrift itself has no order of them.
                headers.sort();
            }
            assert_eq!(headers, fields.map(renamed).collect::<Vec<_>>(), "{file}");
            if matches!(found.kind, Kind::Request | Kind::OneWay) {
                let mut head = Head::new();
                Thrift.head(&vector.bytes, Depth::Verified, &mut head).unwrap();
                let (service, method) =
                    name.split_once(':').map_or((None, name), |(service, method)| (Some(service), method));
                assert_eq!(head.get("method"), Some(method), "{file}");
                if service.is_some() {
                    assert_eq!(head.get("service"), service, "{file}");
                }
                assert_eq!(head.attachments().count(), message.headers.len(), "{file}");
            }
        }
    }
}

#[test]
fn streams_are_split_into_the_calls_that_were_made() {
    let streams: Vec<_> = files("python-0.25.0", true);
    assert!(streams.iter().any(|stream| stream.name.starts_with("unframed-compact")));
    for stream in streams {
        let (mut rest, mut names) = (&stream.bytes[..], Vec::new());
        while !rest.is_empty() {
            let found = frame(stream.from, rest);
            names.push(Message::read(&rest[..found.len]).unwrap().name.into_owned());
            rest = &rest[found.len..];
        }
        let mut expected =
            vec!["sayHello", "plus", "echoUser", "nothing", "fail", "boom", "notify", "noSuch"];
        expected.retain(|name| *name != "notify" || stream.from == Peer::Client);
        assert_eq!(names, expected, "{}", stream.name);
    }
}

#[test]
fn a_cut_frame_needs_more_and_then_is_the_same() {
    let streams =
        files("python-0.25.0", true).into_iter().filter(|stream| stream.name.starts_with("unframed"));
    for vector in all_vectors().chain(streams) {
        let whole = frame(vector.from, &vector.bytes);
        for cut in 0..whole.len {
            match Thrift.split(vector.from, &vector.bytes[..cut], LIMIT).unwrap() {
                Step::NeedMore { at_least } => {
                    assert!(cut < at_least && at_least <= whole.len, "{} at {cut}", vector.path);
                }
                other => panic!("{} at {cut}: {other:?}", vector.path),
            }
        }
        let two = [&vector.bytes[..whole.len], &vector.bytes].concat();
        assert_eq!(frame(vector.from, &two), whole, "{}", vector.path);
    }
}

#[test]
fn a_frame_that_is_cut_short_is_refused_or_answered() {
    for vector in all_vectors().filter(|vector| !vector.name.starts_with("unframed")) {
        for cut in 5..vector.bytes.len() {
            let mut bytes = vector.bytes[..cut].to_vec();
            bytes[..4].copy_from_slice(&u32::try_from(cut - 4).unwrap().to_be_bytes());
            let found = Thrift.split(vector.from, &bytes, LIMIT);
            assert!(found.is_err(), "{} at {cut}: {found:?}", vector.path);
        }
    }
}

#[test]
fn a_service_is_named_by_the_message_or_by_kitex() {
    let read = |path: &str, depth| {
        let mut head = Head::new();
        Thrift.head(&vector(&format!("kitex-0.15.4/{path}")).bytes, depth, &mut head).unwrap();
        entries(&head)
    };
    let known = |service| pairs(&[("method", "sayHello"), ("service", service)]);
    assert_eq!(read("ttheader-ints.00-sayHello.req", Depth::Head), known("shop.greeter"));
    assert_eq!(read("ttheader-isn.02-sayHello.req", Depth::Head), known("Greeter"));
    assert_eq!(read("ttheader-none.05-sayHello.req", Depth::Head), pairs(&[("method", "sayHello")]));
    let both = read("ttheader-both.04-sayHello.req", Depth::Attachments);
    let expected = [
        ("method", "sayHello"),
        ("x-lane", "gray"),
        ("toService", "shop.greeter"),
        ("service", "shop.greeter"),
    ];
    assert_eq!(both, pairs(&expected));
}
