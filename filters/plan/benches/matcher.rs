//! What finding a route costs in a plan of 10 routes and in one of 10000: instructions per call, counted by callgrind,
//! and nanoseconds, which depend on the machine.
//!
//!     cargo bench -p meltemi-plan --bench matcher
//!
//! Without valgrind, only the time is told. Instructions are the difference between two runs of the same case under
//! callgrind, so that reading the plan does not count. The bench fails when the larger plan takes more of them than a
//! microsecond has room for.
use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{env, iter};

use meltemi_codecs::{Codecs, Head};
use meltemi_plan::{Plan, Service};
use serde_json::{Value, json};

/// A case: what the routes are keyed on, the matchers of a route by its number, and the attributes of its calls.
struct Case {
    name: &'static str,
    matchers: fn(usize) -> Value,
    call: fn(usize) -> [(&'static str, String); 3],
}

const CASES: [Case; 8] = [
    Case {
        name: "interface",
        matchers: |n| json!({"interface": {"exact": interface(n)}}),
        call: |n| call(interface(n), "sayHello".to_owned(), "blue".to_owned()),
    },
    Case {
        name: "method",
        matchers: |n| json!({"method": {"exact": format!("method{n}")}}),
        call: |n| call(interface(0), format!("method{n}"), "blue".to_owned()),
    },
    Case {
        name: "interface and method",
        matchers: |n| json!({"interface": {"exact": interface(n / 100)}, "method": {"exact": method(n)}}),
        call: |n| call(interface(n / 100), method(n), "blue".to_owned()),
    },
    Case {
        name: "attachment",
        matchers: |n| json!({"tenant": {"exact": format!("tenant-{n}")}}),
        call: |n| call(interface(0), "sayHello".to_owned(), format!("tenant-{n}")),
    },
    Case {
        name: "prefix of the interface",
        matchers: |n| json!({"interface": {"prefix": format!("com.example.team{n}.")}}),
        call: |n| call(format!("com.example.team{n}.Service"), "sayHello".to_owned(), "blue".to_owned()),
    },
    Case {
        name: "interface and prefix of the method",
        matchers: |n| json!({"interface": {"exact": interface(0)}, "method": {"prefix": format!("get{n}By")}}),
        call: |n| call(interface(0), format!("get{n}ById"), "blue".to_owned()),
    },
    Case {
        name: "an attachment of its own each",
        matchers: |n| json!({format!("flag-{n}"): {"exact": "on"}, "interface": {"exact": interface(0)}}),
        call: |_| call(interface(0), "sayHello".to_owned(), "blue".to_owned()),
    },
    Case {
        name: "interface, no route matches",
        matchers: |n| json!({"interface": {"exact": interface(n)}}),
        call: |n| call(interface(n + 1_000_000), "sayHello".to_owned(), "blue".to_owned()),
    },
];

fn interface(n: usize) -> String {
    format!("com.example.catalog.api.Service{n}")
}

/// One of the methods that every interface has.
fn method(n: usize) -> String {
    format!("method{}", n % 100)
}

fn call(interface: String, method: String, tenant: String) -> [(&'static str, String); 3] {
    [("interface", interface), ("method", method), ("tenant", tenant)]
}

const SIZES: [usize; 2] = [10, 10_000];

/// Instructions that the larger plan may take more: about a microsecond's at one a cycle and 2 GHz.
const MOST_MORE: u64 = 2000;

/// Rounds of the shorter run under callgrind; the longer one has twice as many.
const ROUNDS: u64 = 2000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, name, size, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        let rounds: u64 = rounds.parse()?;
        let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
        let mut run = case.run(size.parse()?)?;
        (0..rounds).for_each(|_| run());
        return Ok(ExitCode::SUCCESS);
    }
    let mut result = ExitCode::SUCCESS;
    println!("{:<36} {:>24} {:>16}", "", "instructions", "ns");
    println!("{:<36} {:>12} {:>11} {:>8} {:>7}", "routes keyed on", SIZES[0], SIZES[1], SIZES[0], SIZES[1]);
    for case in CASES {
        let counts = SIZES.map(|size| case.instructions(size).ok());
        let [few, many] = counts.map(|count| count.map_or("-".to_owned(), |count| count.to_string()));
        let [short, long] = SIZES.map(|size| case.nanoseconds(size).unwrap_or(f64::NAN));
        println!("{:<36} {few:>12} {many:>11} {short:>8.1} {long:>7.1}", case.name);
        if let [Some(few), Some(many)] = counts
            && many > few + MOST_MORE
        {
            println!("    {} instructions more: over the limit of {MOST_MORE}", many - few);
            result = ExitCode::FAILURE;
        }
    }
    Ok(result)
}

impl Case {
    /// A plan of so many routes and calls to all parts of it, in turns that leave nothing to a cache by chance.
    fn run(&self, size: usize) -> Result<impl FnMut(), Box<dyn Error>> {
        let service = service(self.matchers, size)?;
        let calls: Vec<_> = (0..size.min(1000)).map(|n| head((self.call)(n * 7919 % size))).collect();
        let mut next = 0;
        Ok(move || {
            black_box(service.route(black_box(&calls[next])));
            next = (next + 1) % calls.len();
        })
    }

    fn instructions(&self, size: usize) -> Result<u64, Box<dyn Error>> {
        let (short, long) = (self.count(size, ROUNDS)?, self.count(size, ROUNDS * 2)?);
        Ok(long.saturating_sub(short) / ROUNDS)
    }

    /// The instructions that this program takes for `rounds` rounds.
    fn count(&self, size: usize, rounds: u64) -> Result<u64, Box<dyn Error>> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe()?)
            .args(["--case", self.name, &size.to_string(), &rounds.to_string()])
            .output()?;
        let report = String::from_utf8(output.stderr)?;
        let collected = report.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(collected.ok_or("no count in callgrind's report")?.parse()?)
    }

    /// The time of one round in the best of several batches.
    fn nanoseconds(&self, size: usize) -> Result<f64, Box<dyn Error>> {
        let mut run = self.run(size)?;
        let batches = iter::repeat_with(|| {
            let start = Instant::now();
            (0..1000).for_each(|_| run());
            start.elapsed()
        });
        Ok(batches.take(200).min().unwrap_or(Duration::ZERO).as_secs_f64() * 1e6)
    }
}

fn service(matchers: fn(usize) -> Value, size: usize) -> Result<Rc<Service>, Box<dyn Error>> {
    let routes: Vec<_> = (0..size)
        .map(|n| json!({"name": format!("route-{n}"), "match": [{"attributes": matchers(n)}], "cluster": "v1"}))
        .collect();
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "routes": routes}}});
    let plan = Plan::parse(plan.to_string().as_bytes(), &Codecs::all())?;
    Ok(Rc::clone(plan.service("demo").ok_or("no service")?))
}

/// What a Dubbo request of usual size says.
fn head([interface, method, tenant]: [(&'static str, String); 3]) -> Head {
    let mut head = Head::new();
    for (name, value) in [("dubbo", "2.0.2"), ("serialization", "hessian2")] {
        head.push(name, value);
    }
    head.push(interface.0, &interface.1);
    head.push("version", "1.0.0");
    head.push(method.0, &method.1);
    head.push("parameterTypes", "Ljava/lang/String;");
    for (name, value) in [("path", &*interface.1), ("timeout", "3000"), ("remote.application", "web")] {
        head.push_attachment(name, value);
    }
    head.push_attachment(tenant.0, &tenant.1);
    head
}
