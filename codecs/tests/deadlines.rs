//! How long clients wait, read from frames that real programs wrote, and passed on smaller.
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use meltemi_codecs::dubbo::message::Request;
use meltemi_codecs::protobuf::{enclose, write_bytes, write_number};
use meltemi_codecs::{
    Brpc, Change, Codec, Codecs, Deadlines, Depth, Dubbo, Edit, Head, Peer, Step, Thrift, Trpc,
};

const SAY_HELLO: &str = "dubbo/java-3.3.5/hessian2-sayHello.c2s.id4287684341972752209.req";

fn vector(path: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors");
    fs::read(root.join(format!("{path}.bin"))).unwrap()
}

/// A request with another time.
fn timed(codec: &dyn Codec, request: &[u8], time: Duration) -> Vec<u8> {
    let mut out = b"before".to_vec();
    codec.rewrite(request, &Edit { time: Some(time), ..Edit::default() }, &mut out).unwrap();
    out.split_off(6)
}

/// All that can be read of a request, less its time.
fn rest(codec: &dyn Codec, request: &[u8]) -> Vec<(String, String)> {
    let Ok(Step::Frame(frame)) = codec.split(Peer::Client, request, 1 << 20) else { panic!("{request:?}") };
    assert_eq!(frame.len, request.len());
    let mut head = Head::new();
    codec.head(request, Depth::Attachments, &mut head).unwrap();
    let told = head.iter().filter(|(name, _)| !["timeout", "_TO", "rpcTimeout", "timeoutMs"].contains(name));
    let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let id = [("id".to_owned(), frame.id.to_string()), ("kind".to_owned(), format!("{:?}", frame.kind))];
    told.chain(id).collect()
}

/// A request of brpc with that time, as Apache brpc writes it where `baidu_std_protocol_deliver_timeout_ms` is set.
fn echo(millis: i64) -> Vec<u8> {
    let mut meta = Vec::new();
    write_bytes(1, b"example.EchoService", &mut meta);
    write_bytes(2, b"Echo", &mut meta);
    write_number(8, millis.cast_unsigned(), &mut meta);
    enclose(1, 0, &mut meta);
    write_number(4, 7, &mut meta);
    let mut frame = b"PRPC".to_vec();
    frame.extend_from_slice(&u32::try_from(meta.len() + 4).unwrap().to_be_bytes());
    frame.extend_from_slice(&u32::try_from(meta.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&meta);
    frame.extend_from_slice(b"body");
    frame
}

/// A request of Dubbo whose client counts its time down: 250 ms are left, as an `Integer`, of 3000.
fn counted_down() -> Vec<u8> {
    let attachments = &[("_TO", "2"), ("x", "y"), ("timeout", "3000")];
    let (interface, method) = ("org.meltemi.Demo", "nothing");
    let request =
        Request { id: 7, one_way: false, interface, version: "1", method, arguments: &[], attachments };
    let mut out = Vec::new();
    request.write(&mut out);
    let text = out.windows(6).position(|bytes| bytes == b"\x03_TO\x012").unwrap();
    out[text + 4..text + 6].copy_from_slice(&[0xc8, 250]);
    out
}

#[test]
fn what_is_left_replaces_what_the_client_said_and_nothing_else() {
    let requests: [(&dyn Codec, Vec<u8>, u64); 6] = [
        (&Dubbo, vector(SAY_HELLO), 3000),
        (&Trpc, vector("trpc/trpc-go-1.0.3/conn-id1.req"), 999),
        (&Thrift, vector("thrift/kitex-0.15.4/ttheader-timeout.11-sayHello.req"), 1500),
        (&Brpc, echo(500), 500),
        (&Dubbo, counted_down(), 250),
        (&Trpc, vector("trpc/from-official-proto/unary-transinfo.req"), 1000),
    ];
    for (codec, request, millis) in requests {
        let said = Some(Duration::from_millis(millis));
        assert_eq!(codec.time(&request), said, "{}", codec.name());
        for (left, read) in [(120_000_000, 120), (1_999_999, 1), (999_999, 1), (0, 1)] {
            let out = timed(codec, &request, Duration::from_nanos(left));
            assert_eq!(codec.time(&out), Some(Duration::from_millis(read)), "{}", codec.name());
            assert_eq!(rest(codec, &out), rest(codec, &request));
        }
    }
    // What servers count down and what they are told are the same from then on.
    let mut head = Head::new();
    let out = timed(&Dubbo, &counted_down(), Duration::from_millis(40));
    Dubbo.head(&out, Depth::Attachments, &mut head).unwrap();
    assert_eq!([head.get("_TO"), head.get("timeout"), head.get("x")], [Some("40"), Some("40"), Some("y")]);
}

#[test]
fn an_edit_by_hand_goes_before_what_is_left() {
    let changes = [Change::set("timeout", "7"), Change::remove("_TO")];
    let edit = Edit { changes: &changes, time: Some(Duration::from_millis(40)), ..Edit::default() };
    let mut out = Vec::new();
    Dubbo.rewrite(&counted_down(), &edit, &mut out).unwrap();
    let mut head = Head::new();
    Dubbo.head(&out, Depth::Attachments, &mut head).unwrap();
    assert_eq!([head.get("_TO"), head.get("timeout")], [None, Some("7")]);
}

#[test]
fn who_says_no_time_waits_as_long_as_it_takes() {
    let none: [(&dyn Codec, Vec<u8>); 8] = [
        (&Dubbo, vector("dubbo/java-2.7.23/main-sayHello.c2s.id0.req")),
        (&Dubbo, vector(SAY_HELLO)[..60].to_vec()),
        (&Trpc, vector("trpc/trpc-go-1.0.3/conn-id2.req")),
        (&Trpc, vector("trpc/from-official-proto/stream-init.req")),
        (&Thrift, vector("thrift/kitex-0.15.4/ttheader-ints.00-sayHello.req")),
        (&Thrift, vector("thrift/python-0.25.0/framed-binary.00-sayHello.req")),
        (&Brpc, vector("brpc/apache-brpc-1.17/00-echo.req")),
        (&Brpc, echo(0)),
    ];
    for (codec, request) in none {
        assert_eq!(codec.time(&request), None, "{}", codec.name());
    }
    // As Apache brpc writes that there is no limit.
    assert_eq!(Brpc.time(&echo(-1)), None);
    let told = Codecs::all();
    let told = ["trpc", "brpc", "dubbo", "thrift"].map(|name| told.get(name).unwrap().deadlines());
    assert_eq!(told, [Deadlines::Always, Deadlines::Asked, Deadlines::Asked, Deadlines::Asked]);
}
