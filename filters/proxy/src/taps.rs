//! Calls that are tapped: told of one by one in the log, for a time, whatever else is logged.

use core::time::Duration;
use std::rc::Rc;

use crate::calls::{CallId, End, Origin};
use crate::clock::{Instant, earliest};
use crate::line_limit::{Lines, SPAN};
use crate::lines::cut;
use crate::plan::{Route, Service, escape};
use crate::telemetry::{LocalReply, outcome};
use crate::worker::Worker;

/// What is told of a call that is tapped, beside its record.
#[derive(Debug, Clone, Default)]
pub struct Tapped {
    /// What each of its taps tells.
    pub taps: Vec<Told>,
    /// Where in the service the plan says that the call takes its route; empty if it takes none.
    why: String,
}

/// What a tap tells of a call.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The name of the tap.
    pub tap: Rc<str>,
    /// The attributes that it names, those that the call has.
    pub attributes: Vec<(Rc<str>, String)>,
    /// Calls of the tap since its last line that are not told of, as there were too many.
    pub suppressed: u64,
    /// Nanoseconds from the Unix epoch to when the tap ends.
    pub until: u64,
}

/// What taps tell of calls that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// How many all of them have told of,
    all: Lines,
    /// and each.
    each: Vec<Each>,
    /// When it is told how many were left out, unless a line says it before.
    due: Option<Instant>,
    /// Of the request that was read last, until it is a call or has an answer.
    pub(crate) last: Option<Box<Tapped>>,
    /// In no order, at most [`MOST_CALLS_OF_ALL`].
    calls: Vec<(CallId, Box<Tapped>)>,
}

/// What one of them has told.
#[derive(Debug)]
struct Each {
    tap: Rc<str>,
    lines: Lines,
    /// How many of its calls have not ended.
    calls: usize,
    /// It has ended by the clock of this proxy, and that is told.
    is_over: bool,
}

/// How many calls a worker tells of in a second, for each tap
const MOST_LINES: u32 = 100;
/// and for all.
const MOST_OF_ALL: u32 = 400;

/// How many taps are remembered: twice as many as a plan has.
const MOST_TAPS: usize = 32;

/// What a line says that is of no call, but of those that were left out,
const LEFT_OUT: &str = "left_out";
/// or of a tap that has ended by the clock of this proxy, which may be ahead of others.
const ENDED: &str = "ended";

/// How many calls under way each tap tells of,
const MOST_CALLS: usize = 250;
/// and all of them.
const MOST_CALLS_OF_ALL: usize = 1000;

/// How much of a value is told, in bytes.
const LONGEST_VALUE: usize = 256;

impl Tapped {
    /// How many calls are not told of, of all its taps: one that two of them left out is two.
    fn suppressed(&self) -> u64 {
        self.taps.iter().fold(0, |sum, told| sum.saturating_add(told.suppressed))
    }

    /// What taps tell and how many calls they left out, by their names, as fields of an object of JSON.
    pub(crate) fn write(&self, line: &mut String) {
        line.push_str(",\"taps\":");
        let mut start = '{';
        for Told { tap, attributes, .. } in &self.taps {
            line.push(start);
            quote(tap, line);
            line.push(':');
            start = '{';
            for (name, value) in attributes {
                line.push(start);
                quote(name, line);
                line.push(':');
                quote(value, line);
                start = ',';
            }
            line.push_str(if attributes.is_empty() { "{}" } else { "}" });
            start = ',';
        }
        line.push_str("},\"suppressedByTap\":");
        let mut start = '{';
        for Told { tap, suppressed, .. } in &self.taps {
            line.push(start);
            quote(tap, line);
            line.push(':');
            line.push_str(itoa::Buffer::new().format(*suppressed));
            start = ',';
        }
        line.push('}');
    }
}

fn quote(text: &str, line: &mut String) {
    line.push('"');
    escape(text, line);
    line.push('"');
}

impl Taps {
    /// The request that was read last has become a call, or it is a copy of it that has.
    #[inline(never)]
    pub(crate) fn begin(&mut self, id: CallId, origin: Origin) {
        if origin != Origin::Proxy {
            let Some(tapped) = self.last.take() else { return };
            self.count(&tapped, |calls| calls.saturating_add(1));
            self.calls.push((id, tapped));
        }
    }

    /// Whether they tell of calls that have not ended.
    #[inline]
    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether a line may be written for the tap, which ends in a while, and how many were not since its last one.
    #[inline(never)]
    fn admit(&mut self, tap: &Rc<str>, now: Instant, left: Duration) -> Option<u64> {
        let has_room = self.calls.len() < MOST_CALLS_OF_ALL && !self.all.is_full(MOST_OF_ALL, now);
        let each = self.each(tap)?;
        each.is_over = false;
        let has_room = has_room && each.calls < MOST_CALLS;
        let suppressed = each.lines.admit(if has_room { MOST_LINES } else { 0 }, now);
        if suppressed.is_none() {
            self.due = earliest(self.due, Some(now.after(SPAN.min(left))));
        }
        suppressed
    }

    /// What the tap of that name has told.
    fn each(&mut self, tap: &Rc<str>) -> Option<&mut Each> {
        let known = self.each.iter().position(|known| known.tap == *tap);
        let at = known.unwrap_or_else(|| {
            if self.each.len() >= MOST_TAPS {
                self.each.remove(0);
            }
            self.each.push(Each { tap: tap.clone(), lines: Lines::default(), calls: 0, is_over: false });
            self.each.len().saturating_sub(1)
        });
        self.each.get_mut(at)
    }

    /// Whether it was not told yet that the tap has ended.
    fn is_news_that_it_ended(&mut self, tap: &Rc<str>) -> bool {
        self.each(tap).is_some_and(|each| !core::mem::replace(&mut each.is_over, true))
    }

    /// When it is told how many calls were left out.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    fn end(&mut self, id: CallId) -> Option<Box<Tapped>> {
        let at = self.calls.iter().position(|(known, _)| *known == id)?;
        let (_, tapped) = self.calls.swap_remove(at);
        self.count(&tapped, |calls| calls.saturating_sub(1));
        Some(tapped)
    }

    /// Changes the number of calls under way of the taps of one.
    fn count(&mut self, tapped: &Tapped, change: impl Fn(usize) -> usize) {
        for each in &mut self.each {
            if tapped.taps.iter().any(|told| told.tap == each.tap) {
                each.calls = change(each.calls);
            }
        }
    }
}

impl Worker {
    /// Whether taps tell of the request that was read last, or of one that is not read.
    #[inline(never)]
    pub(crate) fn tap(&mut self, service: &Service, route: Option<&Rc<Route>>, is_read: bool) -> bool {
        let head = Some(&self.head).filter(|_| is_read);
        let mut taps = Vec::new();
        for tap in service.taps.iter().flatten() {
            let is_meant = tap.takes(head, self.random.u32(..));
            if !is_meant {
                continue;
            }
            let left = Duration::from_nanos(tap.until.saturating_sub(self.reports.wall_time(self.now)));
            if left.is_zero() {
                if self.taps.is_news_that_it_ended(&tap.name) {
                    self.telemetry.log(of_no_call(&tap.name, ENDED, 0));
                }
                continue;
            }
            let Some(suppressed) = self.taps.admit(&tap.name, self.now, left) else { continue };
            let mut attributes = Vec::new();
            for name in &tap.attributes {
                if let Some(value) = head.and_then(|head| head.get(name)) {
                    attributes.push((name.clone(), cut(value, LONGEST_VALUE).to_owned()));
                }
            }
            taps.push(Told { tap: tap.name.clone(), attributes, suppressed, until: tap.until });
        }
        self.taps.last = None;
        if taps.is_empty() {
            return false;
        }
        self.taps.all.admit(MOST_OF_ALL, self.now);
        let why = route.zip(head).map(|(route, head)| service.reason(route, head)).unwrap_or_default();
        self.taps.last = Some(Box::new(Tapped { taps, why }));
        true
    }

    /// Tells of a call that ends so, if it is tapped.
    #[inline(never)]
    pub(crate) fn tell_tapped(&mut self, id: CallId, end: End) {
        let (Some(tapped), Some(call)) = (self.taps.end(id), self.calls.get(id)) else { return };
        let label = self.telemetry.label(call.record().operation);
        let line = self.line("tap", call.record(), label, outcome(end), "");
        self.tell_taps(tapped, line);
    }

    /// Tells how many calls were left out since the last line of each tap: a second after the first of them, or when it ends.
    #[inline(never)]
    pub(crate) fn tell_left_out(&mut self) {
        self.taps.due = None;
        for Each { tap, lines, .. } in &mut self.taps.each {
            let suppressed = lines.take_suppressed();
            if suppressed > 0 {
                self.telemetry.log(of_no_call(tap, LEFT_OUT, suppressed));
            }
        }
    }

    /// Writes the line of a request that has ended, of those of its taps that have not ended before it.
    pub(crate) fn tell_taps(&mut self, mut tapped: Box<Tapped>, mut line: LocalReply) {
        let now = self.reports.wall_time(self.now);
        tapped.taps.retain(|told| told.until > now);
        if !tapped.taps.is_empty() {
            if !tapped.why.is_empty() && !line.detail.is_empty() {
                line.detail.insert_str(0, "; ");
            }
            line.detail.insert_str(0, &tapped.why);
            line.suppressed = tapped.suppressed();
            line.tapped = Some(tapped);
            self.telemetry.log(line);
        }
    }
}

/// What a tap tells of itself.
fn of_no_call(tap: &Rc<str>, reason: &'static str, suppressed: u64) -> LocalReply {
    let taps = vec![Told { tap: tap.clone(), suppressed, ..Told::default() }];
    let tapped = Some(Box::new(Tapped { taps, ..Tapped::default() }));
    LocalReply { event: "tap", reason, suppressed, tapped, ..LocalReply::default() }
}
