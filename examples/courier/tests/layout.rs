//! The protocol as a layout, `examples/layouts/courier.yaml`, does what the codec that is written by hand does.
use std::fs;

use courier::{Courier, write, write_request};
use meltemi_codecs::{Codec, Depth, Edit, Failure, Head, Kind, Layout, Peer, Step, fuzz::fuzz_codec};

const LIMIT: usize = 4096;

fn layout() -> Layout {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../layouts/courier.yaml");
    let raw = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    meltemi_plan::layout("courier", &raw).unwrap()
}

/// What a codec makes of whole frames: the attributes of a request, the frame with another id, and what answers it.
fn made(codec: &dyn Codec, from: Peer, frame: &[u8]) -> Vec<String> {
    let step = codec.split(from, frame, LIMIT);
    let mut made = vec![format!("{step:?}")];
    let Ok(Step::Frame(found)) = step else { return made };
    let mut out = Vec::new();
    codec.rewrite(frame, &Edit { id: Some(0x0102_0304), ..Edit::default() }, &mut out).unwrap();
    match found.kind {
        Kind::Request | Kind::OneWay => {
            let mut head = Head::new();
            made.push(format!("{:?}", codec.head(frame, Depth::Head, &mut head)));
            made.extend(head.iter().map(|(name, value)| format!("{name}={value}")));
            for failure in Failure::ALL {
                codec.error_reply(&frame[..found.head], failure, "so", &mut out);
            }
        }
        Kind::HeartbeatRequest => codec.heartbeat_reply(frame, &mut out),
        _ => {}
    }
    codec.drain_notice(&mut out);
    made.push(format!("{out:?}"));
    made
}

#[test]
fn a_layout_does_what_the_codec_does() {
    let layout = layout();
    assert_eq!(
        (layout.sharing(), layout.max_id(), layout.operation()),
        (Courier.sharing(), Courier.max_id(), Courier.operation())
    );
    for status in 0..10 {
        assert_eq!(layout.status_name(status), Courier.status_name(status));
    }
    let mut frames = Vec::new();
    for (flags, status) in (0..16).flat_map(|flags| (0..9).map(move |status| (flags, status))) {
        let mut frame = Vec::new();
        write(&mut frame, flags, 9, 1, status, b"\x05depot and more");
        frames.push(frame);
    }
    for command in ["track", "deliver", "notify"] {
        let mut frame = Vec::new();
        write_request(&mut frame, 7, "north/1", command, b"box");
        frames.push(frame);
    }
    for frame in frames {
        for from in [Peer::Client, Peer::Server] {
            let mut by_hand = made(&Courier, from, &frame);
            let mut by_layout = made(&layout, from, &frame);
            // Attributes in any order, and what is kept to answer a frame may differ.
            by_hand.sort();
            by_layout.sort();
            let plain = |lines: Vec<String>| {
                lines.into_iter().map(|line| line.replace("head: 16", "head: 8")).collect::<Vec<_>>()
            };
            assert_eq!(plain(by_layout), plain(by_hand), "{frame:?}");
            for cut in 0..frame.len() {
                let cut = &frame[..cut];
                assert_eq!(layout.split(from, cut, LIMIT), Courier.split(from, cut, LIMIT));
            }
        }
        fuzz_codec(&layout, &frame);
    }
    let other = layout.split(Peer::Client, b"GET / HTTP/1.1\r\n", LIMIT);
    assert_eq!(other, Courier.split(Peer::Client, b"GET / HTTP/1.1\r\n", LIMIT));
}
