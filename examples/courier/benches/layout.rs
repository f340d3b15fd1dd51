//! What layouts cost beside codecs that are written by hand: instructions per frame, counted by callgrind.
//!
//!     cargo bench -p meltemi-courier
//!
//! Instructions are the difference between two runs of the same case, so that starting up does not count.
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::{env, fs};

use courier::{ANSWER, Courier, write, write_request};
use meltemi_codecs::{Brpc, Codec, Depth, Dubbo, Edit, Head, Layout, Peer, Trpc};

/// Rounds of the shorter run; the longer one has twice as many.
const ROUNDS: u64 = 1000;

const PROTOCOLS: [&str; 4] = ["courier", "dubbo", "brpc", "trpc"];

/// What `meltemi learn` proposes for Dubbo, and its status.
const DUBBO: &str = r#"
magic: dabb
length: {at: 12, as: u32, plus: 16}
id: {at: 4, as: u64}
kind: {at: 2, as: u8, request: 0xc2, oneWay: 0x82, heartbeat: 0xe2, response: 2, heartbeatReply: 0x22}
header: 16
parts:
- {name: part1, prefix: u8, form: text}
- {name: service, prefix: u8, form: text}
- {name: part3, prefix: u8, form: text}
- {name: method, prefix: u8, form: text}
status: {at: 3, as: u8, success: [20]}
service: service
method: method
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, protocol, case, codec, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        let codec: Box<dyn Codec> = match (&**codec, &**protocol) {
            ("layout", protocol) => Box::new(layout(protocol)?),
            (_, "dubbo") => Box::new(Dubbo),
            (_, "brpc") => Box::new(Brpc),
            (_, "trpc") => Box::new(Trpc),
            _ => Box::new(Courier),
        };
        return run(&frame(protocol, case)?, peer(case), &*codec, rounds.parse()?);
    }
    println!("{:<20} {:>8} {:>10} {:>10} {:>8}", "", "bytes", "by hand", "layout", "ratio");
    for (protocol, case) in
        PROTOCOLS.iter().flat_map(|protocol| ["request", "answer"].map(|case| (protocol, case)))
    {
        let [by_hand, layout] = ["by hand", "layout"].map(|codec| {
            let counted = |rounds| counted(protocol, case, codec, rounds);
            Ok::<_, Box<dyn Error>>((counted(ROUNDS * 2)? - counted(ROUNDS)?) / ROUNDS)
        });
        let (by_hand, layout) = (by_hand?, layout?);
        let (name, bytes) = (format!("{protocol}, {case}"), frame(protocol, case)?.len());
        println!("{name:<20} {bytes:>8} {by_hand:>10} {layout:>10} {:>8.2}", layout as f64 / by_hand as f64);
    }
    Ok(())
}

fn layout(protocol: &str) -> Result<Layout, Box<dyn Error>> {
    let path = format!("{}/../layouts/{protocol}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = if protocol == "dubbo" { DUBBO.to_owned() } else { fs::read_to_string(path)? };
    Ok(meltemi_plan::layout(protocol, &serde_saphyr::from_str(&text)?)?)
}

fn peer(case: &str) -> Peer {
    if case == "request" { Peer::Client } else { Peer::Server }
}

/// A frame of a real program; courier's own.
fn frame(protocol: &str, case: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut frame = Vec::new();
    let file = match (protocol, case) {
        ("courier", "request") => {
            write_request(&mut frame, 7, "harbour/3", "deliver", b"twelve boxes");
            return Ok(frame);
        }
        ("courier", _) => {
            write(&mut frame, ANSWER, 7, 0, 0, b"south: twelve boxes");
            return Ok(frame);
        }
        ("dubbo", "request") => "dubbo/java-2.7.23/main-sayHello.c2s.id11.req.bin",
        ("dubbo", _) => "dubbo/java-2.7.23/main-sayHello.s2c.id11.resp.bin",
        ("brpc", "request") => "brpc/apache-brpc-1.17/00-echo.req.bin",
        ("brpc", _) => "brpc/apache-brpc-1.17/00-echo.resp.bin",
        (_, "request") => "trpc/trpc-go-1.0.3/conn-id1.req.bin",
        _ => "trpc/trpc-go-1.0.3/conn-id1.resp.bin",
    };
    Ok(fs::read(format!("{}/../../codecs/vectors/{file}", env!("CARGO_MANIFEST_DIR")))?)
}

/// Does what the proxy does with a frame: finds it, reads a request's attributes, and sends it on with another id.
fn run(frame: &[u8], from: Peer, codec: &dyn Codec, rounds: u64) -> Result<(), Box<dyn Error>> {
    let (mut out, mut head) = (Vec::new(), Head::new());
    for round in 0..rounds {
        black_box(codec.split(from, black_box(frame), 1 << 20))?;
        if from == Peer::Client {
            black_box(codec.head(black_box(frame), Depth::Head, &mut head))?;
        }
        out.clear();
        let edit = Edit { id: Some(round & 0xffff), ..Edit::default() };
        black_box(codec.rewrite(black_box(frame), &edit, &mut out))?;
    }
    Ok(())
}

/// The instructions that this program takes for so many rounds.
fn counted(protocol: &str, case: &str, codec: &str, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--case", protocol, case, codec, &rounds.to_string()])
        .output()?;
    let report = String::from_utf8(output.stderr)?;
    let collected = report.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(collected.ok_or("no count in callgrind's report")?.parse()?)
}
