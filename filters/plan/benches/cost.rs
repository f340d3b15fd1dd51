//! The dearest of 1000 requests for each of 1000 plans, all of them made to be dear: instructions for reading the head and
//! finding the route, counted by callgrind, and the bound that docs/plan.md states.
//!
//!     cargo bench -p meltemi-plan --features fuzzing --bench cost
//!
//! The dearest are found by counting steps; these alone run under callgrind. The bench fails when one is over its bound.
use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::{env, iter};

use meltemi_codecs::{Codec, Codecs, Depth, Dubbo, Head};
use meltemi_plan::Plan;
use meltemi_plan::fuzz::{bound, sample_plan, sample_request, search};

const SAMPLES: u64 = 1000;

/// How many run under callgrind: the dearest of all, and those nearest to their bounds.
const SHOWN: usize = 8;

/// Rounds of the shorter run under callgrind; the longer one has twice as many.
const ROUNDS: u64 = 20;

struct Pair {
    plan: u64,
    request: u64,
    bytes: usize,
    steps: usize,
    bound: usize,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, plan, request, rounds] = arguments.as_slice()
        && flag == "--pair"
    {
        run(plan.parse()?, request.parse()?, rounds.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut pairs = pairs()?;
    pairs.sort_by_key(|pair| pair.steps);
    let dearest: Vec<_> = iter::from_fn(|| pairs.pop()).take(SHOWN).collect();
    pairs.sort_by(|a, b| (a.steps * b.bound).cmp(&(b.steps * a.bound)));
    let nearest: Vec<_> = iter::from_fn(|| pairs.pop()).take(SHOWN).collect();
    let mut result = ExitCode::SUCCESS;
    println!("{:>6} {:>8} {:>8} {:>14} {:>12}", "plan", "request", "bytes", "instructions", "bound");
    for Pair { plan, request, bytes, bound, .. } in dearest.into_iter().chain(nearest) {
        let counted = instructions(plan, request)?;
        println!("{plan:>6} {request:>8} {bytes:>8} {counted:>14} {bound:>12}");
        if counted > bound as u64 {
            println!("    over its bound");
            result = ExitCode::FAILURE;
        }
    }
    Ok(result)
}

/// The dearest request for each plan.
fn pairs() -> Result<Vec<Pair>, Box<dyn Error>> {
    let requests: Vec<_> = (0..SAMPLES).map(sample_request).collect();
    let heads: Vec<_> = requests.iter().map(|request| head(request, Depth::Attachments)).collect();
    let mut pairs = Vec::new();
    for plan in 0..SAMPLES {
        let compiled = Plan::parse(sample_plan(plan).as_bytes(), &Codecs::all())?;
        let service = compiled.service("demo").ok_or("no service")?;
        let costs = heads.iter().map(|head| search(service, head).1).enumerate();
        let (request, steps) = costs.max_by_key(|(_, steps)| *steps).ok_or("no request")?;
        let bytes = requests[request].len();
        let bound = bound(service, bytes, &heads[request]);
        pairs.push(Pair { plan, request: request as u64, bytes, steps, bound });
    }
    Ok(pairs)
}

fn head(request: &[u8], depth: Depth) -> Head {
    let mut head = Head::new();
    let _ = Dubbo.head(request, depth, &mut head);
    head
}

fn run(plan: u64, request: u64, rounds: u64) -> Result<(), Box<dyn Error>> {
    let plan = Plan::parse(sample_plan(plan).as_bytes(), &Codecs::all())?;
    let service = plan.service("demo").ok_or("no service")?;
    let request = sample_request(request);
    let mut head = Head::new();
    for _ in 0..rounds {
        let _ = Dubbo.head(black_box(&request), Depth::Attachments, &mut head);
        black_box(service.doubt(&head));
        black_box(service.route(&head));
    }
    Ok(())
}

fn instructions(plan: u64, request: u64) -> Result<u64, Box<dyn Error>> {
    let (short, long) = (count(plan, request, ROUNDS)?, count(plan, request, ROUNDS * 2)?);
    Ok(long.saturating_sub(short) / ROUNDS)
}

/// The instructions that this program takes for so many rounds.
fn count(plan: u64, request: u64, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--pair", &plan.to_string(), &request.to_string(), &rounds.to_string()])
        .output()?;
    let report = String::from_utf8(output.stderr)?;
    let collected = report.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(collected.ok_or("no count in callgrind's report")?.parse()?)
}
