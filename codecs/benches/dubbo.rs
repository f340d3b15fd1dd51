//! What the Dubbo codec costs: instructions per call, counted by callgrind, and nanoseconds, which depend on the machine.
//!
//!     cargo bench -p meltemi-codecs
//!
//! Without valgrind, only the time is told. Instructions are the difference between two runs of the same case under
//! callgrind, so that starting up does not count.
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use meltemi_codecs::dubbo::message::{Answer, Request};
use meltemi_codecs::{Codec, Depth, Dubbo, Edit, Failure, Head, Peer};

type Case = (&'static str, Box<dyn FnMut()>);

/// Rounds of the shorter run under callgrind; the longer one has twice as many.
const ROUNDS: u64 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, name, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        let rounds: u64 = rounds.parse()?;
        let (_, mut run) = cases()?.into_iter().find(|(case, _)| case == name).ok_or("no such case")?;
        (0..rounds).for_each(|_| run());
        return Ok(());
    }
    println!("{:<44} {:>12} {:>8}", "dubbo", "instructions", "ns");
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

fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/dubbo");
    // 218 bytes: one short string argument, six attachments.
    let request = fs::read(format!("{vectors}/java-2.7.23/main-sayHello.c2s.id11.req.bin"))?;
    let objects = fs::read(format!("{vectors}/hessian-4.0.66/objects-shared.bin"))?;
    let fastjson2 =
        fs::read(format!("{vectors}/java-3.3.5/fastjson2-sayHello.c2s.id6967182592993628463.req.bin"))?;
    let mut large = Vec::new();
    let argument = "x".repeat(16 * 1024);
    let service = Request { interface: "org.example.DemoService", method: "echo", ..Request::default() };
    Request { arguments: &[argument.as_str().into()], ..service }.write(&mut large);
    let mut response = Vec::new();
    Answer::Value("Hello envoy".into()).write(1, &[("dubbo", "2.0.2")], &mut response);

    let split = |from, bytes: Vec<u8>| {
        Box::new(move || {
            let _ = black_box(Dubbo.split(from, black_box(&bytes), 1 << 24));
        })
    };
    let head = |depth, bytes: Vec<u8>| {
        let mut head = Head::new();
        Box::new(move || {
            let _ = black_box(Dubbo.split(Peer::Client, black_box(&bytes), 1 << 24));
            let _ = black_box(Dubbo.head(black_box(&bytes), depth, &mut head));
        })
    };
    let rewrite = |set: &[(&str, &str)], bytes: Vec<u8>| {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut out = Vec::new();
        Box::new(move || {
            out.clear();
            let edit = Edit { id: Some(7), set: &set, remove: &[] };
            let _ = black_box(Dubbo.rewrite(black_box(&bytes), &edit, &mut out));
        })
    };
    let mut reply = Vec::new();
    let front = request.clone();
    let error_reply = Box::new(move || {
        reply.clear();
        Dubbo.error_reply(black_box(&front), Failure::Timeout, "no answer within 2s", &mut reply);
        black_box(&reply);
    });
    Ok(vec![
        ("split, request of 218 bytes", split(Peer::Client, request.clone())),
        ("split, response", split(Peer::Server, response.clone())),
        ("split and head, 218 bytes", head(Depth::Head, request.clone())),
        ("split and head, 218 bytes, attachments", head(Depth::Attachments, request.clone())),
        ("split and head, 366 bytes of objects", head(Depth::Attachments, objects)),
        ("split and head, 16 KiB, attachments", head(Depth::Attachments, large.clone())),
        ("split and head, fastjson2, attachments", head(Depth::Attachments, fastjson2)),
        ("rewrite the id, 218 bytes", rewrite(&[], request.clone())),
        ("rewrite the id, 16 KiB", rewrite(&[], large)),
        ("rewrite an attachment, 218 bytes", rewrite(&[("x-lane", "blue")], request)),
        ("error reply", error_reply),
    ])
}
