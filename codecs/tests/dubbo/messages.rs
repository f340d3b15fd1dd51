use meltemi_codecs::dubbo::message::{Answer, Request, Value, read_answer, read_arguments};
use meltemi_codecs::{Codec, Depth, Dubbo, Head, Kind, Outcome, Peer};

use super::{frame, vector};

#[test]
fn a_request_is_written_as_java_writes_it() {
    let java = vector("java-2.7.23/main-sayHello.c2s.id0.req").bytes;
    assert_eq!(read_arguments(&java).unwrap(), [Value::from("envoy")]);
    let mut bytes = Vec::new();
    let request = Request {
        interface: "org.example.DemoService",
        version: "1.0.0",
        method: "sayHello",
        arguments: &["envoy".into()],
        ..Request::default()
    };
    request.write(&mut bytes);
    let map = java.iter().rposition(|byte| *byte == b'H').unwrap();
    assert_eq!(bytes[..4], java[..4]);
    assert_eq!(bytes[16..map], java[16..map]);
    let mut bytes = Vec::new();
    Request { one_way: true, id: 3, ..request }.write(&mut bytes);
    let one_way = frame(Peer::Client, &bytes);
    assert_eq!((one_way.kind, one_way.id), (Kind::OneWay, 3));
}

#[test]
fn answers_are_read_back() {
    let exception = Answer::Exception { class: "java.lang.RuntimeException".into(), message: "no".into() };
    let big = vec![1_u8; 100_000];
    for (answer, kind) in [
        (Answer::Value("é😀".into()), Outcome::Success),
        (Answer::Value(big.as_slice().into()), Outcome::Success),
        (Answer::Value(Value::Integer(i64::MIN)), Outcome::Success),
        (Answer::Value(Value::Null), Outcome::Success),
        (exception, Outcome::Exception),
        (Answer::Error { status: 70, text: "why".into() }, Outcome::Error(70)),
    ] {
        let mut bytes = Vec::new();
        answer.write(9, &[("k", "v")], &mut bytes);
        let frame = frame(Peer::Server, &bytes);
        assert_eq!((frame.kind, frame.id, frame.len), (Kind::Response(kind), 9, bytes.len()));
        assert_eq!(read_answer(&bytes).unwrap(), answer);
        let mut head = Head::new();
        Dubbo.response_head(&bytes, &mut head).unwrap();
        assert_eq!(head.get("k").is_some(), kind != Outcome::Error(70));
    }
}

#[test]
fn answers_of_java_are_read() {
    let read = |path: &str| format!("{:?}", read_answer(&vector(path).bytes).unwrap());
    assert_eq!(read("java-2.7.23/main-sayHello.s2c.id0.resp"), r#"Value(Text("Hello envoy"))"#);
    assert_eq!(read("java-2.7.23/main-plus.s2c.id1.resp"), "Value(Integer(3))");
    assert_eq!(read("java-2.7.23/main-nothing.s2c.id7.resp"), "Value(Null)");
    assert_eq!(read("java-2.7.23/main-echoMap.s2c.id5.resp"), "Value(Other)");
    let fail = r#"Exception { class: "java.lang.IllegalStateException", message: "fail: x" }"#;
    assert_eq!(read("java-2.7.23/main-fail.s2c.id8.resp"), fail);
}

#[test]
fn a_written_request_is_read() {
    let mut bytes = Vec::new();
    let request = Request {
        id: u64::MAX,
        interface: "a.B",
        method: "m",
        arguments: &[Value::Null, 7.into()],
        attachments: &[("x", "é😀")],
        ..Request::default()
    };
    request.write(&mut bytes);
    let mut head = Head::new();
    Dubbo.head(&bytes, Depth::Attachments, &mut head).unwrap();
    assert_eq!(
        (head.get("interface"), head.get("method"), head.get("x")),
        (Some("a.B"), Some("m"), Some("é😀"))
    );
    assert_eq!(read_arguments(&bytes).unwrap(), [Value::Null, Value::Integer(7)]);
}
