//! What a client connection costs that has made a call and is idle.

use anyhow::{Context as _, Result, ensure};

use super::proc::Memory;
use super::report::{Limit, Verdict};
use super::subject::{Parts, Subject};
use super::wide::Findings;
use super::{Case, Protocol, Proxy, load, markdown};

/// Connections to Meltemi.
const CLIENTS: usize = 10_000;
/// Connections to a proxy that makes one to a server for each: fewer, since all are open files.
const PAIRED: usize = 4_000;

/// Memory by connection, of Meltemi and of plain TCP, each in an Envoy of its own.
///
/// # Errors
///
/// An Envoy that does not start, or connections that cannot be opened.
pub fn measure(parts: &Parts) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut lines = Vec::new();
    for (proxy, clients) in [(Proxy::Tcp, PAIRED), (Proxy::Meltemi, CLIENTS)] {
        let subject = Subject::start(parts)?;
        let case = |clients| Case { protocol: Protocol::Dubbo, clients, in_flight: 1, body: 64 };
        let before = {
            let _few = load::hold(subject.address(proxy), &case(8))?;
            Memory::of(subject.pid())?
        };
        let held = load::hold(subject.address(proxy), &case(clients))
            .with_context(|| format!("{clients} connections to {}", proxy.name(parts.protocol)))?;
        ensure!(held.errors() == 0, "{} of {clients} connections got no answer", held.errors());
        let after = Memory::of(subject.pid())?;
        let each = |before: u64, after: u64| (after.saturating_sub(before)) as f64 / clients as f64 / 1e3;
        let vm = each(before.vm, after.vm);
        lines.push(vec![
            proxy.name(parts.protocol).to_owned(),
            clients.to_string(),
            format!("{:.1}", each(before.resident, after.resident)),
            if proxy == Proxy::Meltemi { format!("{vm:.1}") } else { String::new() },
        ]);
        if proxy == Proxy::Meltemi {
            let what = format!("kB of a VM for each of {clients} idle clients");
            findings.verdicts.push(Verdict { what, value: vm, limit: Limit::AtMost(8.0) });
        }
    }
    let columns = ["proxy", "idle clients", "kB of Envoy for each", "of these, of the VM"];
    findings.text = markdown::table(1, &columns, &lines);
    Ok(findings)
}
