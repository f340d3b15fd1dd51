//! What a layout costs beside a codec that is written by hand: instructions per frame, counted by callgrind.
//!
//!     cargo bench -p meltemi-courier
//!
//! Instructions are the difference between two runs of the same case, so that starting up does not count.
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::{env, fs};

use courier::{ANSWER, Courier, write, write_request};
use meltemi_codecs::{Codec, Depth, Edit, Head, Layout, Peer};

/// Rounds of the shorter run; the longer one has twice as many.
const ROUNDS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    let layout = layout()?;
    if let [_, flag, case, codec, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        let codec: &dyn Codec = if codec == "layout" { &layout } else { &Courier };
        run(case, codec, rounds.parse()?);
        return Ok(());
    }
    println!("{:<12} {:>10} {:>10} {:>8}", "courier", "by hand", "layout", "ratio");
    for case in ["request", "answer"] {
        let [by_hand, layout] = ["by hand", "layout"].map(|codec| {
            Ok::<_, Box<dyn Error>>(
                (counted(case, codec, ROUNDS * 2)? - counted(case, codec, ROUNDS)?) / ROUNDS,
            )
        });
        let (by_hand, layout) = (by_hand?, layout?);
        println!("{case:<12} {by_hand:>10} {layout:>10} {:>8.2}", layout as f64 / by_hand as f64);
    }
    Ok(())
}

fn layout() -> Result<Layout, Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../layouts/courier.yaml");
    Ok(meltemi_plan::layout("courier", &serde_saphyr::from_str(&fs::read_to_string(path)?)?)?)
}

/// Does what the proxy does with a frame: finds it, reads a request's attributes, and sends it on with another id.
fn run(case: &str, codec: &dyn Codec, rounds: u64) {
    let (mut frame, mut out, mut head) = (Vec::new(), Vec::new(), Head::new());
    let from = match case {
        "request" => {
            write_request(&mut frame, 7, "harbour/3", "deliver", b"twelve boxes");
            Peer::Client
        }
        _ => {
            write(&mut frame, ANSWER, 7, 0, 0, b"south: twelve boxes");
            Peer::Server
        }
    };
    for round in 0..rounds {
        let _ = black_box(codec.split(from, black_box(&frame), 1 << 20));
        if from == Peer::Client {
            let _ = black_box(codec.head(black_box(&frame), Depth::Head, &mut head));
        }
        out.clear();
        let edit = Edit { id: Some(round & 0xffff), ..Edit::default() };
        let _ = black_box(codec.rewrite(black_box(&frame), &edit, &mut out));
    }
}

/// The instructions that this program takes for so many rounds.
fn counted(case: &str, codec: &str, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--case", case, codec, &rounds.to_string()])
        .output()?;
    let report = String::from_utf8(output.stderr)?;
    let collected = report.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(collected.ok_or("no count in callgrind's report")?.parse()?)
}
