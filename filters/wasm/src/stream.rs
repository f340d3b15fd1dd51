use std::rc::Rc;

use meltemi_proxy::{Budget, LEAST_UNREAD, Ledger, Worker};
use meltemi_sockets::{Options, Side};

use crate::host::{self, Buffer};
use crate::ledger::SharedLedger;
use crate::report::{self, Report};
use crate::root::PlanCell;

/// One tunnel connection from tcp_proxy: the worker behind it and the buffer that it writes to.
pub(crate) struct Stream {
    plan: Rc<PlanCell>,
    /// The worker and its number among those of the plan.
    worker: Option<(Worker, u64)>,
    out: Vec<u8>,
    has_failed: bool,
    is_closed: bool,
}

thread_local! {
    /// The memory that the clients of all tunnel connections of this VM take.
    static BUDGET: Rc<Budget> = Rc::default();
    /// The token buckets of this VM and of all others.
    static LEDGER: Rc<dyn Ledger> = Rc::new(SharedLedger);
}

/// The length of the head of an HTTP/2 frame, RFC 9113 section 4.1.
const HEAD: usize = 9;

/// The output buffer's memory is given back when it grew beyond this.
const MOST_CAPACITY: usize = 4 * 1024 * 1024;

impl Stream {
    pub(crate) fn new(plan: Rc<PlanCell>) -> Self {
        Self { plan, worker: None, out: Vec::new(), has_failed: false, is_closed: false }
    }

    /// Gives the worker what `from` sent, in the first `size` bytes of its buffer, and puts there what goes to the other
    /// side.
    pub(crate) fn carry(&mut self, from: Side, size: usize) {
        if self.is_closed {
            return;
        }
        let (buffer, to) = match from {
            Side::Downstream => (Buffer::Downstream, Side::Upstream),
            Side::Upstream => (Buffer::Upstream, Side::Downstream),
        };
        let Some(plan) = self.plan.current() else { return self.fail("there is no plan") };
        let now = host::now();
        let (worker, number) = self.worker.get_or_insert_with(|| {
            let worker = Worker::new(plan.clone(), Options::default(), host::wall_time());
            let worker = worker.with_names(&report::names()).with_budget(&BUDGET.with(Rc::clone));
            let worker = worker.with_ledger(LEDGER.with(Rc::clone)).with_reports(&report::reports());
            let worker = worker.with_leftovers(self.plan.leftovers());
            (worker, self.plan.next_tunnel())
        });
        worker.set_plan(plan);
        if !self.plan.is_newest(*number) {
            worker.supersede(now);
        }
        self.out.clear();
        // Of much that passes, only the head of its frame is read, and replaced.
        let unread = if from == Side::Upstream && size >= LEAST_UNREAD && !self.has_failed {
            Some(host::buffer(buffer, HEAD)).filter(|head| worker.pass_unread(head, size, now, &mut self.out))
        } else {
            None
        };
        let (replaced, received) = match unread {
            Some(head) => (head.len(), Ok(())),
            None => {
                let input = if size == 0 { Vec::new() } else { host::buffer(buffer, size) };
                let received = if self.has_failed { Ok(()) } else { worker.receive(from, &input, now) };
                worker.transmit(to, &mut self.out);
                (size, received)
            }
        };
        worker.flush(&mut Report);
        let is_replaced = (size == 0 && self.out.is_empty()) || host::replace(buffer, replaced, &self.out);
        if self.out.capacity() > MOST_CAPACITY {
            self.out = Vec::new();
        }
        match received {
            Err(error) => self.fail(&format!("{from:?} broke HTTP/2: {error}")),
            Ok(()) if !is_replaced => self.fail("the host refused the output"),
            Ok(()) => {}
        }
    }

    /// Gives up this connection; tcp_proxy opens another.
    fn fail(&mut self, why: &str) {
        if !self.has_failed {
            self.has_failed = true;
            log::error!("meltemi: closing the tunnel connection: {why}");
            host::close();
        }
    }

    /// The connection is gone, and nothing more comes of it.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        if let Some((mut worker, _)) = self.worker.take() {
            worker.shut_down(&mut Report);
        }
    }
}

/// A host may delete a connection without a word of its close.
impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}
