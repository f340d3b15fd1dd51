//! Runs the cases of a benchmark: instructions per call, counted by callgrind, and nanoseconds, which depend on the machine.
//!
//! Without valgrind, only the time is told. Instructions are the difference between two runs of the same case under
//! callgrind, so that starting up does not count.
use std::env;
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use meltemi_codecs::{Change, Codec, Depth, Edit, Failure, Head, Peer};

pub type Case = (&'static str, Box<dyn FnMut()>);

/// Rounds of the shorter run under callgrind; the longer one has twice as many.
const ROUNDS: u64 = 500;

/// Measures every case of `title`, or runs the one that the command line names.
pub fn run(title: &str, cases: impl Fn() -> Result<Vec<Case>, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, name, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        let rounds: u64 = rounds.parse()?;
        let (_, mut run) = cases()?.into_iter().find(|(case, _)| case == name).ok_or("no such case")?;
        (0..rounds).for_each(|_| run());
        return Ok(());
    }
    println!("{:<44} {:>12} {:>8}", title, "instructions", "ns");
    for (name, mut run) in cases()? {
        let counted = match (instructions(name, ROUNDS), instructions(name, ROUNDS * 2)) {
            (Ok(short), Ok(long)) => format!("{}", long.saturating_sub(short) / ROUNDS),
            _ => "-".to_owned(),
        };
        println!("{name:<44} {counted:>12} {:>8.1}", nanoseconds(&mut run));
    }
    Ok(())
}

/// The instructions that this program takes for `rounds` rounds of the case `name`.
fn instructions(name: &str, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--case", name, &rounds.to_string()])
        .output()?;
    let report = String::from_utf8(output.stderr)?;
    let collected = report.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(collected.ok_or("no count in callgrind's report")?.parse()?)
}

/// The time of one round in the best of several batches.
fn nanoseconds(run: &mut dyn FnMut()) -> f64 {
    let mut batch = || {
        let start = Instant::now();
        (0..1000).for_each(|_| run());
        start.elapsed()
    };
    let best = (0..50).map(|_| batch()).min().unwrap_or(Duration::ZERO);
    best.as_secs_f64() * 1e6
}

/// Finds a frame.
pub fn split<C: Codec + 'static>(codec: C, from: Peer, bytes: Vec<u8>) -> Box<dyn FnMut()> {
    Box::new(move || {
        let _ = black_box(codec.split(from, black_box(&bytes), 1 << 24));
    })
}

/// Finds a request and reads its head.
pub fn head<C: Codec + 'static>(codec: C, depth: Depth, bytes: Vec<u8>) -> Box<dyn FnMut()> {
    let mut head = Head::new();
    Box::new(move || {
        let _ = black_box(codec.split(Peer::Client, black_box(&bytes), 1 << 24));
        let _ = black_box(codec.head(black_box(&bytes), depth, &mut head));
    })
}

/// Writes a frame with another id, and these attachments.
pub fn rewrite<C: Codec + 'static>(codec: C, set: &[(&str, &str)], bytes: Vec<u8>) -> Box<dyn FnMut()> {
    let changes: Vec<_> = set.iter().map(|(name, value)| Change::set(*name, *value)).collect();
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let edit = Edit { id: Some(7), changes: &changes, ..Edit::default() };
        let _ = black_box(codec.rewrite(black_box(&bytes), &edit, &mut out));
    })
}

/// Answers a request in the upstream's stead.
pub fn error_reply<C: Codec + 'static>(codec: C, request: Vec<u8>) -> Box<dyn FnMut()> {
    let mut reply = Vec::new();
    Box::new(move || {
        reply.clear();
        codec.error_reply(black_box(&request), Failure::Timeout, "no answer within 2s", &mut reply);
        black_box(&reply);
    })
}
