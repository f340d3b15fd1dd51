//! The layouts of `examples/layouts` on frames of real programs, and on frames made by hand where nobody has any.
mod frames;

use meltemi_codecs::{
    Codec, Depth, Edit, Error, Failure, Frame, Head, Kind, Layout, Outcome, Peer, Sharing, Step,
    fuzz::{fuzz_codec, fuzz_front},
};

use crate::frames::{of_text, text, vectors};

const LIMIT: usize = 1 << 20;

fn layout(name: &str) -> Layout {
    of_text(name, &text(name))
}

/// What a layout says of a whole frame, in one line: kind, id, and the attributes of a request.
fn told(layout: &Layout, from: Peer, bytes: &[u8]) -> String {
    fuzz_codec(layout, bytes);
    let step = layout.split(from, bytes, LIMIT);
    let Ok(Step::Frame(Frame { len, kind, id, .. })) = step else { panic!("{step:?}") };
    assert_eq!(len, bytes.len());
    let mut head = Head::new();
    if matches!(kind, Kind::Request | Kind::OneWay) {
        layout.head(bytes, Depth::Verified, &mut head).unwrap();
    }
    let attributes = head.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{kind:?} {id}{}", attributes.collect::<String>())
}

/// Every vector of a folder as the layout reads it.
fn all(layout: &Layout, folder: &str) -> Vec<String> {
    let vectors = vectors(folder);
    let line =
        |(name, from, bytes): &(String, Peer, Vec<u8>)| format!("{name}: {}", told(layout, *from, bytes));
    vectors.iter().map(line).collect()
}

fn with_id(layout: &Layout, frame: &[u8], id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    layout.rewrite(frame, &Edit { id: Some(id), ..Edit::default() }, &mut out).unwrap();
    out
}

fn error_reply(layout: &Layout, request: &[u8], failure: Failure) -> Vec<u8> {
    let mut out = Vec::new();
    layout.error_reply(request, failure, "no", &mut out);
    out
}

#[test]
fn brpc_is_read() {
    let layout = layout("brpc");
    let echo = "service=example.EchoService method=Echo log_id=7";
    assert_eq!(
        all(&layout, "brpc/apache-brpc-1.17"),
        [
            format!("00-echo.req: Request 4294967298 {echo}"),
            "00-echo.resp: Response(Success) 4294967298".to_owned(),
            format!("01-attach.req: Request 8589934598 {echo}"),
            "01-attach.resp: Response(Success) 8589934598".to_owned(),
            format!("02-biz.req: Request 12884901890 {echo}"),
            "02-biz.resp: Response(Error(10001)) 12884901890".to_owned(),
            format!("03-gzip.req: Request 17179869186 {echo}"),
            "03-gzip.resp: Response(Success) 17179869186".to_owned(),
            "04-big.resp: Response(Success) 25769803778".to_owned(),
            format!("04-timeout.req: Request 21474836482 {echo}"),
            format!("05-big.req: Request 25769803778 {echo}"),
            "05-unimpl.resp: Response(Error(2001)) 30064771074".to_owned(),
            "06-reqid.resp: Response(Success) 34359738370".to_owned(),
            "06-unimpl.req: Request 30064771074 service=example.EchoService method=Other".to_owned(),
            format!("07-reqid.req: Request 34359738370 {echo}"),
        ]
    );
    let request = &vectors("brpc/apache-brpc-1.17")[0].2;
    // A shorter id makes the frame shorter, and back again gives what was.
    let short = with_id(&layout, request, 1);
    assert_eq!(short.len(), request.len() - 4);
    assert_eq!(with_id(&layout, &short, 4_294_967_298), *request);
    let reply = error_reply(&layout, request, Failure::Timeout);
    assert_eq!(told(&layout, Peer::Server, &reply), "Response(Error(1008)) 4294967298");
    assert_eq!(layout.status_name(1008), Some("ERPCTIMEDOUT"));
}

#[test]
fn trpc_is_read() {
    let layout = layout("trpc");
    let call = "caller=trpc.client.cli.service callee=trpc.helloworld.Greeter func=/trpc.helloworld.Greeter";
    assert_eq!(
        all(&layout, "trpc/trpc-go-1.0.3"),
        [
            format!("conn-id1.req: Request 1 {call}/Hello"),
            "conn-id1.resp: Response(Success) 1".to_owned(),
            format!("conn-id2.req: Request 2 {call}/Hello x-lane=gray"),
            "conn-id2.resp: Response(Success) 2".to_owned(),
            format!("conn-id3.req: Request 3 {call}/Hello"),
            "conn-id3.resp: Response(Exception) 3".to_owned(),
            format!("conn-id4.req: Request 4 {call}/Hello"),
            "conn-id4.resp: Response(Exception) 4".to_owned(),
            format!("conn-id5.req: OneWay 5 {call}/Hello"),
            format!("conn-id6.req: Request 6 {call}/Hello"),
            format!("conn1-id10.req: Request 10 {call}/NoSuch"),
            "conn1-id10.resp: Response(Error(12)) 10".to_owned(),
            format!("conn1-id7.req: Request 7 {call}/Hello"),
            "conn1-id7.resp: Response(Success) 7".to_owned(),
            format!("conn1-id8.req: Request 8 {call}/Hello"),
            "conn1-id8.resp: Response(Success) 8".to_owned(),
            format!("conn1-id9.req: Request 9 {call}/Hello"),
            "conn1-id9.resp: Response(Success) 9".to_owned(),
        ]
    );
    let request = &vectors("trpc/trpc-go-1.0.3")[0].2;
    let other = with_id(&layout, request, 300);
    assert_eq!(other[10..14], [0, 0, 1, 44]);
    assert_eq!(other[8..10], [0, 0x58], "the head is a byte longer");
    assert_eq!(other[16..19], [0x18, 0xac, 2]);
    let reply = error_reply(&layout, request, Failure::NoRoute);
    assert_eq!(told(&layout, Peer::Server, &reply), "Response(Error(11)) 1");
}

#[test]
fn bolt_is_read() {
    let layout = layout("bolt");
    let test = "service=com.nodejs.test.TestService:1.0";
    let proto = "com.alipay.sofa.rpc.test.ProtoService:1.0";
    assert_eq!(
        all(&layout, "bolt/sofa-bolt-node-2.0.1"),
        [
            "heartbeat.c2s.id7.heartbeat-request: HeartbeatRequest 7".to_owned(),
            format!("heartbeat.c2s.id8.oneway: OneWay 8 {test}"),
            "heartbeat.s2c.id7.heartbeat-response: HeartbeatResponse 7".to_owned(),
            "heartbeat.s2c.id8.response: Response(Success) 8".to_owned(),
            format!("hessian2.c2s.id1.request: Request 1 {test}"),
            format!("hessian2.c2s.id2.request: Request 2 {test}"),
            format!("hessian2.c2s.id3.request: Request 3 {test}"),
            "hessian2.s2c.id1.response: Response(Success) 1".to_owned(),
            "hessian2.s2c.id2.response: Response(Exception) 2".to_owned(),
            "hessian2.s2c.id3.response: Response(Exception) 3".to_owned(),
            format!(
                "protobuf.c2s.id4.request: Request 4 service={proto} method=echoObj sofa_head_target_app= \
                 sofa_head_target_service={proto}"
            ),
            "protobuf.s2c.id4.response: Response(Success) 4".to_owned(),
        ]
    );
    let (heartbeat, answer) = {
        let vectors = vectors("bolt/sofa-bolt-node-2.0.1");
        (vectors[0].2.clone(), vectors[2].2.clone())
    };
    let mut reply = Vec::new();
    layout.heartbeat_reply(&heartbeat, &mut reply);
    // The real one names the client beside.
    assert_eq!(reply[..9], answer[..9]);
    assert_eq!(told(&layout, Peer::Server, &reply), "HeartbeatResponse 7");
}

#[test]
fn qza_is_read() {
    let layout = layout("qza");
    let head = [&[1, 2, 153, 0][..], &[2, 2, 1, 0], &[3, 4], b"mary"].concat();
    let mut frame =
        [b"qZA\x01", &[0; 4][..], &7_u32.to_le_bytes(), &[0, 0], &[14, 0], &head, b"body"].concat();
    let len = u32::try_from(frame.len() - 8).unwrap();
    frame[4..8].copy_from_slice(&len.to_le_bytes());
    assert_eq!(told(&layout, Peer::Client, &frame), "Request 7 cmd=153 sub_cmd=1 user=mary");
    assert_eq!(with_id(&layout, &frame, 0x0102_0304)[8..12], [4, 3, 2, 1]);
    let reply = error_reply(&layout, &frame, Failure::Timeout);
    assert_eq!(reply, [&b"qZA\x02\x0a\0\0\0\x07\0\0\0"[..], &504_u16.to_le_bytes(), &[0, 0], b"no"].concat());
    // A tag that is there twice may be read in two ways.
    let twice = [&[1, 2, 153, 0][..], &[1, 2, 1, 0]].concat();
    let mut frame = [b"qZA\x01\x10\0\0\0", &7_u32.to_le_bytes()[..], &[0, 0], &[8, 0], &twice].concat();
    frame[4] = u8::try_from(frame.len() - 8).unwrap();
    let mut head = Head::new();
    assert_eq!(layout.head(&frame, Depth::Head, &mut head), Ok(()));
    assert!(layout.head(&frame, Depth::Verified, &mut head).is_err());
}

#[test]
fn videopacket_is_read() {
    let layout = layout("videopacket");
    let head = b"cmd=play;room=12";
    let body = vec![9; 200];
    let inner = [&7_u64.to_be_bytes()[..], &[0x11, 0], &[0, 16], head, &body].concat();
    let frame = [&b"VP\xe4\x01"[..], &inner].concat();
    assert_eq!(inner.len(), 228);
    assert_eq!(told(&layout, Peer::Client, &frame), "Request 7 command=play room=12");
    assert_eq!(with_id(&layout, &frame, 1)[4..12], [0, 0, 0, 0, 0, 0, 0, 1]);
    let reply = error_reply(&layout, &frame, Failure::NoRoute);
    assert_eq!(told(&layout, Peer::Server, &reply), "Response(Error(4)) 7");
    let mut ping = frame.clone();
    ping[12] = 0x30;
    assert_eq!(told(&layout, Peer::Client, &ping), "HeartbeatRequest 7");
}

/// In how many places the frames of a folder can be cut so that the front says all.
fn fronts(name: &str, folder: &str) -> [usize; 2] {
    let layout = layout(name);
    let count = |sender| {
        let vectors = vectors(folder).into_iter().filter(|(_, from, _)| *from == sender);
        vectors.map(|(_, from, bytes)| fuzz_front(&layout, from, &bytes)).sum()
    };
    [Peer::Client, Peer::Server].map(count)
}

#[test]
fn what_a_front_says_holds_for_the_whole() {
    for (name, folder) in [
        ("brpc", "brpc/apache-brpc-1.17"),
        ("trpc", "trpc/trpc-go-1.0.3"),
        ("bolt", "bolt/sofa-bolt-node-2.0.1"),
    ] {
        let [requests, answers] = fronts(name, folder);
        assert!(requests > 30 && answers > 30, "{name}: {requests} and {answers} fronts");
    }
    let head = [&[1, 2, 153, 0][..], &[2, 2, 1, 0], &[3, 4], b"mary"].concat();
    let front = [b"qZA\x01", &122_u32.to_le_bytes(), &[7, 0, 0, 0, 0, 0, 14, 0][..], &head].concat();
    let request = [&front, &[7; 100][..]].concat();
    assert_eq!(fuzz_front(&layout("qza"), Peer::Client, &request), 100, "the head comes first");
    let inner = [&7_u64.to_be_bytes()[..], &[0x11, 0], &[0, 16], b"cmd=play;room=12", &[9; 200]].concat();
    let request = [&b"VP\xe4\x01"[..], &inner].concat();
    assert_eq!(fuzz_front(&layout("videopacket"), Peer::Client, &request), 200);
    let request = [&b"CR\x01\0\0\0\0\x07\0\0\0\0\0\0\0\x27\x06depot1"[..], &[9; 32]].concat();
    assert_eq!(fuzz_front(&layout("courier"), Peer::Client, &request), 32);
    let answer = [&b"CR\x01\x01\0\0\0\x07\0\0\0\0\0\0\0\x20"[..], &[9; 32]].concat();
    assert_eq!(fuzz_front(&layout("courier"), Peer::Server, &answer), 32, "it names no depot");
}

/// What is read may be in a part that ends with the frame.
#[test]
fn a_head_that_comes_last_is_waited_for() {
    let text = "magic: '7a'\nlength: {at: 1, as: u16, plus: 3}\nid: {at: 3, as: u32}\nparts:\n\
                - {name: method, form: text}\nservice: method\nmethod: method\n";
    let frame = [&b"\x7a\0\x0a\0\0\0\x07"[..], b"lookup"].concat();
    let layout = of_text("late", text);
    let whole = layout.split(Peer::Client, &frame, LIMIT);
    assert!(matches!(whole, Ok(Step::Frame(Frame { kind: Kind::Request, id: 7, .. }))), "{whole:?}");
    assert_eq!(fuzz_front(&layout, Peer::Client, &frame), 0);
    assert_eq!(fuzz_front(&layout, Peer::Server, &frame), 6);
}

#[test]
fn a_success_is_not_taken_for_a_failure() {
    let layout = layout("courier");
    let answer = b"CR\x01\x01\0\0\0\x09\0\0\0\0\0\0\0\x02ok";
    assert_eq!(told(&layout, Peer::Server, answer), format!("{:?} 9", Kind::Response(Outcome::Success)));
}

#[test]
fn a_layout_without_ids_answers_failures() {
    let text = text("courier").replace("id: {at: 4, as: u32}\n", "").replace("{id:u32}", "00000000");
    let layout = of_text("courier", &text);
    assert_eq!((layout.max_id(), layout.sharing()), (0, Sharing::Exclusive));
    let mut request = vec![0; 16];
    request[..3].copy_from_slice(b"CR\x01");
    let reply = error_reply(&layout, &request, Failure::Timeout);
    assert_eq!(told(&layout, Peer::Server, &reply), "Response(Error(5)) 0");
}

/// Whoever sends many small fields makes the proxy look at each, once for every place.
#[test]
fn messages_of_many_fields_are_refused() {
    let brpc = layout("brpc");
    let frame = |fields: usize| {
        let meta = [0x78, 1].repeat(fields);
        let length = u32::try_from(meta.len()).unwrap().to_be_bytes();
        [b"PRPC", &length[..], &length, &meta].concat()
    };
    let step = |fields| brpc.split(Peer::Client, &frame(fields), LIMIT);
    assert!(matches!(step(16 << 10), Ok(Step::Frame(_))));
    assert!(matches!(step((16 << 10) + 1), Err(Error::Unsupported { what: "number of fields", .. })));
}

/// A layout with a part of JSON, and after it one with a map.
fn json_layout() -> Layout {
    let text = r#"{
        "length": {"at": 0, "as": "u16", "plus": 4}, "id": {"at": 2, "as": "u16"},
        "parts": [
            {"name": "head", "prefix": "u8", "form": "json"}, {"name": "tags", "form": "map", "size": "u8"}
        ],
        "attributes": {"command": {"in": "head", "path": "cmd"}, "user": {"in": "head", "path": "who.user"}},
        "method": "command"
    }"#;
    meltemi_plan::layout("own", &serde_saphyr::from_str(text).unwrap()).unwrap()
}

/// What such a request is called by; `None` if it is not verified.
fn verified(json: &str, tags: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let tags: Vec<u8> = tags.iter().flat_map(|(key, value)| [text(key), text(value)].concat()).collect();
    let parts = [text(json), tags].concat();
    let frame = [&u16::try_from(parts.len()).unwrap().to_be_bytes()[..], &[0, 7], &parts].concat();
    let (layout, mut head) = (json_layout(), Head::new());
    layout.head(&frame, Depth::Attachments, &mut head).unwrap();
    layout.head(&frame, Depth::Verified, &mut head).ok()?;
    Some(head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn json_that_servers_read_otherwise_is_not_verified() {
    for (json, command) in [
        (r#"{"cmd": "ping"}"#, "ping"),
        (r#"{"cmd": "1.0"}"#, "1.0"),
        (r#"{"cmd": 17, "price": 1.0, "Who": 1}"#, "17"),
        (r#"{"cmd": -3}"#, "-3"),
        (r#"{"cmd": true}"#, "true"),
    ] {
        let told = verified(json, &[]).unwrap_or_else(|| panic!("{json}"));
        assert_eq!(told[0], ("command".to_owned(), command.to_owned()), "{json}");
    }
    for json in [
        // Readers that pass over case take the last.
        r#"{"cmd": "ping", "CMD": "stop"}"#,
        r#"{"Cmd": "stop"}"#,
        r#"{"who": {"u\u017fer": "root"}}"#,
        // The same number as one that is denied.
        r#"{"cmd": 17.0}"#,
        r#"{"cmd": 17e0}"#,
        r#"{"cmd": 017}"#,
        r#"{"cmd": +17}"#,
        r#"{"cmd": -0}"#,
        // In C, text ends there.
        r#"{"cmd": "stop\u0000"}"#,
    ] {
        assert_eq!(verified(json, &[]), None, "{json}");
    }
}

#[test]
fn no_entry_passes_for_an_attribute() {
    let told = verified(r#"{"command": "ping"}"#, &[("user", "root"), ("tag", "x")]);
    assert_eq!(told, Some(vec![("tag".to_owned(), "x".to_owned())]));
}

/// One field may lead to several numbers: as it is, and as the message that it also is.
#[test]
fn numbers_of_one_message_are_each_the_last_of_theirs() {
    let text = "magic: '7a'\nlength: {at: 1, as: u8, plus: 3}\nheader: 3\nid: {in: meta, path: '1'}\n\
                parts:\n- {name: meta, length: {at: 2, as: u8}, form: protobuf}\n\
                kind: {in: meta, path: '2', request: 1, response: 2}\n\
                status: {in: meta, path: '5.3', exception: [5], service: {in: meta, path: '4'}}\n\
                errorReply: {frame: '7a {rest:u8-1} {rest:u8} 08 {id:varint} 10 02 2a (18 {status:varint})', status: 9}\n";
    let layout = of_text("deep", text);
    let told = |meta: &[u8]| {
        let length = u8::try_from(meta.len()).unwrap();
        told(&layout, Peer::Server, &[&[b'z', length, length], meta].concat())
    };
    assert_eq!(told(&[8, 7, 16, 2]), "Response(Success) 7");
    assert_eq!(told(&[16, 1, 42, 2, 24, 5, 8, 6, 16, 2, 8, 7]), "Response(Exception) 7");
    assert_eq!(told(&[42, 2, 24, 5, 16, 2, 42, 2, 24, 6]), "Response(Error(6)) 0");
    assert_eq!(told(&[32, 1, 16, 2]), "Response(Exception) 0");
    assert_eq!(told(&[32, 1, 16, 1, 8, 3]), "Request 3");
}
