//! The protocols of `examples/layouts`, and frames of theirs.

use std::fs;

use courier::{PING, write, write_request};
use meltemi_codecs::{Codec, Edit, Layout, Peer};
use meltemi_plan::raw;
use meltemi_tests::files;
use serde_json::Value;

pub const MIB: usize = 1 << 20;

/// A protocol, and calls in it.
pub struct Protocol {
    pub name: &'static str,
    pub layout: Layout,
    pub text: Value,
    /// Requests that differ in the attribute.
    pub requests: [Vec<u8>; 2],
    pub answer: Vec<u8>,
    pub heartbeat: Option<Vec<u8>>,
    /// The attribute, and its values in the requests.
    pub attribute: &'static str,
    pub values: [&'static str; 2],
}

fn vector(path: &str) -> Vec<u8> {
    fs::read(files::root().join("codecs/vectors").join(path)).unwrap()
}

pub fn protocols() -> Vec<Protocol> {
    let courier = |command| {
        let mut frame = Vec::new();
        write_request(&mut frame, 7, "north/1", command, b"box");
        frame
    };
    let of_courier = |flags| {
        let mut frame = Vec::new();
        write(&mut frame, flags, 7, 0, 0, b"");
        frame
    };
    let qza = |kind: u8, cmd: u8| {
        let tags = [1, 2, cmd, 0, 2, 2, 1, 0];
        let rest = [&[7, 0, 0, 0, 0, 0, 8, 0][..], &tags, b"body"].concat();
        [b"qZA", &[kind][..], &u32::try_from(rest.len()).unwrap().to_le_bytes(), &rest].concat()
    };
    let videopacket = |kind: u8, cmd: &str| {
        let head = format!("cmd={cmd};room=12");
        let length = [0, u8::try_from(head.len()).unwrap()];
        let inner = [&[0, 0, 0, 0, 0, 0, 0, 7, kind, 0][..], &length, head.as_bytes(), b"body"].concat();
        [b"VP", &[u8::try_from(inner.len()).unwrap()][..], &inner].concat()
    };
    let protocol = |name, requests, answer, heartbeat, attribute, values| {
        let text = fs::read_to_string(files::root().join(format!("examples/layouts/{name}.yaml"))).unwrap();
        let raw: raw::Layout = serde_saphyr::from_str(&text).unwrap();
        let layout = meltemi_plan::layout(name, &raw).unwrap();
        let text = serde_saphyr::from_str(&text).unwrap();
        Protocol { name, layout, text, requests, answer, heartbeat, attribute, values }
    };
    let brpc = |file: &str| vector(&format!("brpc/apache-brpc-1.17/{file}.bin"));
    let trpc = |file: &str| vector(&format!("trpc/trpc-go-1.0.3/{file}.bin"));
    let bolt = |file: &str| vector(&format!("bolt/sofa-bolt-node-2.0.1/{file}.bin"));
    vec![
        protocol(
            "courier",
            [courier("track"), courier("deliver")],
            of_courier(courier::ANSWER),
            Some(of_courier(PING)),
            "command",
            ["track", "deliver"],
        ),
        protocol(
            "brpc",
            [brpc("00-echo.req"), brpc("06-unimpl.req")],
            brpc("00-echo.resp"),
            None,
            "method",
            ["Echo", "Other"],
        ),
        protocol(
            "trpc",
            [trpc("conn-id1.req"), trpc("conn1-id10.req")],
            trpc("conn-id1.resp"),
            None,
            "func",
            ["/trpc.helloworld.Greeter/Hello", "/trpc.helloworld.Greeter/NoSuch"],
        ),
        protocol(
            "bolt",
            [bolt("hessian2.c2s.id1.request"), bolt("protobuf.c2s.id4.request")],
            bolt("hessian2.s2c.id1.response"),
            Some(bolt("heartbeat.c2s.id7.heartbeat-request")),
            "service",
            ["com.nodejs.test.TestService:1.0", "com.alipay.sofa.rpc.test.ProtoService:1.0"],
        ),
        protocol("qza", [qza(1, 7), qza(1, 153)], qza(2, 0), Some(qza(4, 0)), "cmd", ["7", "153"]),
        protocol(
            "videopacket",
            [videopacket(0x10, "play"), videopacket(0x10, "stop")],
            videopacket(0x20, "-"),
            Some(videopacket(0x30, "-")),
            "command",
            ["play", "stop"],
        ),
    ]
}

impl Protocol {
    pub fn with_id(&self, frame: &[u8], id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.layout.rewrite(frame, &Edit { id: Some(id), ..Edit::default() }, &mut out).unwrap();
        out
    }
}

/// A frame with a mebibyte more at its end.
pub fn grown(name: &str, from: Peer, frame: &[u8]) -> Vec<u8> {
    let mut out = [frame, &vec![0x5a; MIB]].concat();
    let at = match (name, from) {
        ("courier", _) => 12,
        ("bolt", Peer::Client) => 18,
        ("bolt", Peer::Server) => 16,
        ("videopacket", _) => {
            // A varint, of one byte before.
            let length = usize::from(frame[2]) + MIB;
            let varint = [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
            out.splice(2..3, varint);
            return out;
        }
        _ => 4,
    };
    let place: &mut [u8; 4] = (&mut out[at..at + 4]).try_into().unwrap();
    *place = match name {
        "qza" => (u32::from_le_bytes(*place) + MIB as u32).to_le_bytes(),
        _ => (u32::from_be_bytes(*place) + MIB as u32).to_be_bytes(),
    };
    out
}

/// The second request, as one that is not answered; `None` where a protocol has no such.
pub fn one_way(protocol: &Protocol) -> Option<Vec<u8>> {
    let mut frame = protocol.requests[1].clone();
    match protocol.name {
        "courier" => frame[3] = 2,
        "qza" => frame[3] = 3,
        "bolt" => frame[1] = 2,
        "trpc" => {
            // Its `call_type`, in a head that is as much longer.
            frame.splice(16..16, [0x10, 1]);
            frame[7] += 2;
            frame[9] += 2;
        }
        _ => return None,
    }
    Some(frame)
}
