//! What clients and servers of every protocol here say.

use std::fs;
use std::path::{Path, PathBuf};

use crate::packets::Capture;

/// What was said on connections: whether the client said it, and the bytes.
pub type Talks = Vec<Vec<(bool, Vec<u8>)>>;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../codecs/vectors")
}

/// A capture of connections, each with what was asked and answered in turn.
pub fn capture(connections: &[Vec<(bool, Vec<u8>)>]) -> Capture {
    let mut capture = Capture::new();
    for (number, turns) in connections.iter().enumerate() {
        let mut connection = capture.connect(40000 + u16::try_from(number).unwrap(), 7000);
        for (is_request, bytes) in turns {
            match is_request {
                true => capture.ask(&mut connection, bytes),
                false => capture.answer(&mut connection, bytes),
            }
        }
        capture.close(connection);
    }
    capture
}

/// Frames of files in a folder whose names start so, in this order.
fn turns(folder: &str, names: &[&str]) -> Vec<(bool, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names {
        let mut files: Vec<PathBuf> = fs::read_dir(vectors().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name))
            .filter(|path| path.extension().is_some_and(|end| end == "bin"))
            .collect();
        assert!(!files.is_empty(), "{folder}/{name}");
        files.sort_by_key(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.contains("resp") || name.contains(".s2c."), name.to_owned())
        });
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            found.push((!(name.contains("resp") || name.contains(".s2c.")), fs::read(&file).unwrap()));
        }
    }
    found
}

/// Calls in the protocols of `examples/layouts` that no program here but a test speaks.
fn private() -> Vec<(&'static str, Talks)> {
    let courier = |kind: u8, id: u32, command: u16, depot: &str, body: &[u8]| {
        let mut rest = Vec::new();
        if kind != 1 && kind < 4 {
            rest.push(u8::try_from(depot.len()).unwrap());
            rest.extend(depot.as_bytes());
        }
        rest.extend(body);
        let mut frame = [b"CR\x01", &[kind][..], &id.to_be_bytes(), &command.to_be_bytes(), &[0, 0]].concat();
        frame.extend(u32::try_from(rest.len()).unwrap().to_be_bytes());
        frame.extend(rest);
        frame
    };
    let mut calls = Vec::new();
    for id in 0..12_u32 {
        let depot = ["north/1", "south/12", "east/7"][id as usize % 3];
        match id {
            5 => calls.push((true, courier(2, id, 2, depot, b"note"))),
            8 => {
                calls.push((true, courier(4, id, 0, "", b"")));
                calls.push((false, courier(5, id, 0, "", b"")));
            }
            _ => {
                let command = u16::from(id % 2 == 0);
                calls.push((true, courier(0, id, command, depot, &vec![b'x'; id as usize * 7])));
                calls.push((false, courier(1, id, command, "", b"done")));
            }
        }
    }
    let qza = |kind: u8, id: u32, cmd: u8, sub: u8, body: &[u8]| {
        let tags = [1, 2, cmd, 0, 2, 2, sub, 0];
        let mut rest = [&id.to_le_bytes()[..], &[0, 0, 8, 0], &tags, body].concat();
        if kind == 2 {
            rest = [&id.to_le_bytes()[..], &[0, 0, 0, 0], body].concat();
        }
        [b"qZA", &[kind][..], &u32::try_from(rest.len()).unwrap().to_le_bytes(), &rest].concat()
    };
    let tagged = (0..10_u8).flat_map(|id| {
        let body = vec![0xee; usize::from(id) * 3];
        [
            (true, qza(1, u32::from(id) + 1, 7 + id % 3, id % 2, &body)),
            (false, qza(2, u32::from(id) + 1, 0, 0, &body)),
        ]
    });
    let videopacket = |kind: u8, id: u64, cmd: &str, body: &[u8]| {
        let head = format!("cmd={cmd};room={id}");
        let length = u16::try_from(head.len()).unwrap().to_be_bytes();
        let inner = [&id.to_be_bytes()[..], &[kind, 0], &length, head.as_bytes(), body].concat();
        let mut frame = b"VP".to_vec();
        let len = inner.len();
        if len < 128 {
            frame.push(u8::try_from(len).unwrap());
        } else {
            frame.extend([(len & 0x7f) as u8 | 0x80, u8::try_from(len >> 7).unwrap()]);
        }
        frame.extend(inner);
        frame
    };
    let videos = (0..10_u64).flat_map(|id| {
        let body = vec![0xee; id as usize * 40];
        let cmd = ["play", "stop"][id as usize % 2];
        [(true, videopacket(0x10, 70 + id, cmd, &body)), (false, videopacket(0x20, 70 + id, "-", b""))]
    });
    vec![("courier", vec![calls]), ("qza", vec![tagged.collect()]), ("videopacket", vec![videos.collect()])]
}

/// The captures of all protocols here, by name.
pub fn protocols() -> Vec<(&'static str, Talks)> {
    let brpc = [
        "00",
        "01",
        "02",
        "03",
        "04-timeout",
        "05-big",
        "04-big",
        "06-unimpl",
        "05-unimpl",
        "07",
        "06-reqid",
    ];
    let trpc =
        ["conn-id1.", "conn-id2", "conn-id3", "conn-id4", "conn-id5", "conn-id6", "conn1-id7", "conn1-id8"];
    let trpc = [&trpc[..], &["conn1-id9", "conn1-id10"]].concat();
    let bolt = [
        "hessian2.c2s.id1.",
        "hessian2.s2c.id1.",
        "hessian2.c2s.id2",
        "hessian2.s2c.id2",
        "hessian2.c2s.id3",
    ];
    let bolt =
        [&bolt[..], &["hessian2.s2c.id3", "protobuf", "heartbeat.c2s.id7", "heartbeat.s2c.id7"]].concat();
    let bolt = [&bolt[..], &["heartbeat.c2s.id8", "heartbeat.s2c.id8"]].concat();
    let main = [
        "sayHello.c2s.id0",
        "sayHello.s2c.id0",
        "plus.",
        "getUser",
        "echoUser",
        "echoMap",
        "echoBytes",
        "nothing",
    ];
    let main: Vec<String> =
        main.iter().chain(&["fail.", "whoami"]).map(|name| format!("main-{name}")).collect();
    let beats = ["hb-sayHello", "hb-heartbeat.c2s.id1", "hb-heartbeat.s2c.id1", "hb-heartbeat.c2s.id2"];
    let beats =
        [&beats[..], &["hb-heartbeat.s2c.id2", "hb-heartbeat.c2s.id3", "hb-heartbeat.s2c.id3"]].concat();
    let dubbo = vec![
        turns("dubbo/java-2.7.23", &main.iter().map(|name| &**name).collect::<Vec<_>>()),
        turns("dubbo/java-2.7.23", &["oneway-notify", "oneway-sayHello.c2s", "oneway-sayHello.s2c"]),
        turns("dubbo/java-2.7.23", &beats),
    ];
    let mut all = vec![
        ("brpc", vec![turns("brpc/apache-brpc-1.17", &brpc)]),
        ("trpc", vec![turns("trpc/trpc-go-1.0.3", &trpc)]),
        ("bolt", vec![turns("bolt/sofa-bolt-node-2.0.1", &bolt)]),
        ("dubbo", dubbo),
    ];
    for form in ["framed-binary", "framed-compact", "header-binary", "header-compact", "header-binary-zlib"] {
        let calls = ["00", "01", "02", "03", "04", "05", "06-notify", "07", "06-noSuch"];
        let names = calls.map(|call| format!("{form}.{call}"));
        all.push((form, vec![turns("thrift/python-0.25.0", &names.each_ref().map(|name| &**name))]));
    }
    all.extend(private());
    all
}

/// Calls of courier.
pub fn courier() -> Talks {
    private().into_iter().find(|(name, _)| *name == "courier").unwrap().1
}
