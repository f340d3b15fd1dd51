//! Lines of the log that go to files, which loggers of the connection manager write.
//!
//! Several lines go in one short request, a line a header: the manager has a logger for each number of lines. Lines gather until
//! there are enough of them, or for a short time. No call waits for them.

use core::time::Duration;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

use meltemi_sockets::Request;

use crate::clock::Instant;
use crate::loggers::NONE;
use crate::plan::Plan;
use crate::worker::Worker;

/// Lines that workers had when they ended. Others of the same listener send them, while the plan is the same. Workers that end
/// with an older one leave none.
#[derive(Debug, Clone, Default)]
pub struct Leftovers(Rc<RefCell<Left>>);

#[derive(Debug, Default)]
struct Left {
    /// The plan that a worker was the last to begin to follow.
    plan: Weak<Plan>,
    lines: Vec<String>,
    bytes: usize,
}

/// What has gathered.
#[derive(Debug, Default)]
pub(crate) struct Files {
    lines: Vec<String>,
    /// Their length.
    bytes: usize,
    due: Option<Instant>,
    leftovers: Leftovers,
    /// The worker sends nothing any more.
    has_ended: bool,
}

/// The header by which the connection manager knows lines: how many there are.
const MARK: &str = "x-meltemi-lines";

/// For so many there are loggers.
const SIZES: [(usize, &str); 3] = [(16, "16"), (4, "4"), (1, "1")];

/// The headers that lines are in.
const NAMES: [&str; MOST_LINES] = [
    "x-call-line-1",
    "x-call-line-2",
    "x-call-line-3",
    "x-call-line-4",
    "x-call-line-5",
    "x-call-line-6",
    "x-call-line-7",
    "x-call-line-8",
    "x-call-line-9",
    "x-call-line-10",
    "x-call-line-11",
    "x-call-line-12",
    "x-call-line-13",
    "x-call-line-14",
    "x-call-line-15",
    "x-call-line-16",
];

/// When so many have gathered,
const MOST_LINES: usize = 16;
/// or so many bytes, they are sent. Envoy takes heads of 60 KiB.
const MOST_TOGETHER: usize = 48 << 10;
/// Fewer wait so long.
const PATIENCE: Duration = Duration::from_millis(200);

/// So many bytes are left for other workers.
const MOST_LEFT: usize = 64 << 10;

impl Files {
    /// The worker ends: what has gathered, and what comes yet, is left to others.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }
}

impl Worker {
    /// Shares lines for files that are left with other workers of the same listener.
    #[must_use]
    pub fn with_leftovers(mut self, leftovers: &Leftovers) -> Self {
        self.files.leftovers = leftovers.clone();
        self.follow_leftovers();
        self
    }

    /// Has leftovers be those of the worker's plan, which is the newest; to be called when that changes.
    pub(crate) fn follow_leftovers(&mut self) {
        let left = self.files.leftovers.0.clone();
        let mut left = left.borrow_mut();
        if left.plan.as_ptr() != Rc::as_ptr(&self.plan) {
            let dropped = left.lines.len();
            *left = Left { plan: Rc::downgrade(&self.plan), ..Left::default() };
            self.entries_dropped("full", dropped);
        }
    }

    /// Has a line go to files, which is as a header has it.
    #[inline(never)]
    pub(crate) fn file(&mut self, line: String) {
        if self.files.bytes.saturating_add(line.len()) > MOST_TOGETHER {
            self.send_lines();
        }
        self.files.bytes = self.files.bytes.saturating_add(line.len());
        self.files.lines.push(line);
        // Without alarms none waits here.
        if self.files.lines.len() >= MOST_LINES || !self.net.is_open() {
            self.send_lines();
        } else if self.files.due.is_none() {
            self.files.due = Some(self.now.after(PATIENCE));
        }
    }

    /// Sends lines that have waited long enough, and those that others have left.
    #[inline]
    pub(crate) fn keep_lines(&mut self) {
        if !self.files.leftovers.0.borrow().lines.is_empty() {
            self.take_leftovers();
        }
        if let Some(due) = self.files.due {
            // The connection ends with its last client.
            if due <= self.now || self.clients.len() == 0 {
                self.send_lines();
            }
            self.alarms.wake_at(self.files.due);
        }
    }

    /// Sends all lines that have gathered; to be called before the plan changes.
    #[inline(never)]
    pub(crate) fn send_lines(&mut self) {
        self.files.due = None;
        if self.files.has_ended {
            return self.leave_lines();
        }
        let (mut rest, mut dropped) = (&*self.files.lines, 0_usize);
        for (size, name) in SIZES {
            while let Some((lines, others)) = rest.split_at_checked(size).filter(|_| self.net.is_open()) {
                let mut headers = [(MARK, name); MOST_LINES + 1];
                let mut count = 1_usize;
                for ((header, name), line) in headers.iter_mut().skip(1).zip(NAMES).zip(lines) {
                    // Nothing is a dash, as in Envoy's own lines.
                    *header = (name, if line.is_empty() { NONE } else { line });
                    count = count.saturating_add(1);
                }
                let request = Request {
                    method: "POST",
                    scheme: "http",
                    authority: "meltemi",
                    path: "/lines",
                    cluster: None,
                    headers: headers.get(..count).unwrap_or_default(),
                    body: &[],
                };
                if !self.net.log(&request, size) {
                    // What nothing can be sent by any more, another worker sends.
                    if !self.net.is_open() {
                        break;
                    }
                    dropped = dropped.saturating_add(size);
                }
                rest = others;
            }
        }
        let gone = self.files.lines.len().saturating_sub(rest.len());
        self.files.lines.drain(..gone);
        self.entries_dropped("full", dropped);
        self.leave_lines();
    }

    /// Leaves what has gathered to others.
    #[cold]
    fn leave_lines(&mut self) {
        self.files.bytes = 0;
        if self.files.lines.is_empty() {
            return;
        }
        let mut dropped = 0_usize;
        let leftovers = self.files.leftovers.clone();
        let left = &mut *leftovers.0.borrow_mut();
        let is_followed = left.plan.as_ptr() == Rc::as_ptr(&self.plan);
        for line in self.files.lines.drain(..) {
            let bytes = left.bytes.saturating_add(line.len());
            match is_followed && bytes <= MOST_LEFT {
                true => {
                    left.bytes = bytes;
                    left.lines.push(line);
                }
                false => dropped = dropped.saturating_add(1),
            }
        }
        self.entries_dropped("full", dropped);
    }

    /// Takes what others have left, who had the same plan.
    #[cold]
    fn take_leftovers(&mut self) {
        let leftovers = self.files.leftovers.clone();
        let is_followed = leftovers.0.borrow().plan.as_ptr() == Rc::as_ptr(&self.plan);
        if self.files.has_ended || !self.net.is_open() || !is_followed {
            return;
        }
        let Left { plan, lines, .. } = leftovers.0.take();
        *leftovers.0.borrow_mut() = Left { plan, ..Left::default() };
        lines.into_iter().for_each(|line| self.file(line));
    }
}
