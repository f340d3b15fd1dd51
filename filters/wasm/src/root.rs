use core::time::Duration;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use meltemi_codecs::Codecs;
use meltemi_proxy::Leftovers;
use meltemi_proxy::plan::{Parsing, Plan, PlanError};

use crate::host;
use crate::report::{self, PlanGauges, has_tap};
use crate::stream::Stream;

/// The plan of one plugin, as all its contexts in this VM see it.
///
/// An update of the configuration makes a new root context in the same VM, while the connections of the old one live
/// on: they read the new plan from here. When a configuration *comes back*, though, Envoy reuses the root context that
/// a worker with open connections still has of it, without notice. Its main thread has no connections, so its VM
/// hears of every update: what one VM is given, it publishes to the others, and they look for it from time to time. Those
/// of an older build of the module do too, which live on with their connections.
pub(crate) struct PlanCell {
    plan: RefCell<Option<Rc<Plan>>>,
    /// The JSON text of the plan in force.
    text: RefCell<Vec<u8>>,
    /// The plan that is to follow it.
    next: RefCell<Option<Next>>,
    /// Where the text is published, and the change of it that is known here.
    key: Vec<u8>,
    known: Cell<u32>,
    /// What is changed after each text, to be looked at in its stead; `None` looks at the text as well.
    revision_key: Vec<u8>,
    revision: Cell<Option<u32>>,
    /// Tunnel connections of this plugin so far.
    tunnels: Cell<u64>,
    /// Lines that the workers of tunnel connections that are gone had for files.
    leftovers: Leftovers,
    gauges: PlanGauges,
}

/// A plan that is read a little at a time, since calls would have to wait for all of a large one.
struct Next {
    parsing: Parsing,
    source: Source,
}

/// Where a plan comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Configuration,
    /// Another VM, which has published it.
    OtherVm,
}

/// How often a VM looks for a plan that another one has published.
const LOOK: Duration = Duration::from_millis(200);

/// Steps of reading a plan that are taken at once, however long: whoever connects meanwhile should find its services, unless
/// these are many, or have more than a thousand routes.
const FIRST_STEPS: usize = 20;

/// How long the next plan is read at once,
const SLICE: Duration = Duration::from_millis(2);

/// and how long calls have the worker in between, at least.
const BREAK: Duration = Duration::from_millis(1);

impl PlanCell {
    fn new(plugin: &[u8]) -> Self {
        Self {
            plan: RefCell::default(),
            text: RefCell::default(),
            next: RefCell::default(),
            key: [b"meltemi.plan.", plugin].concat(),
            known: Cell::default(),
            revision_key: [b"meltemi.revision.", plugin].concat(),
            revision: Cell::default(),
            tunnels: Cell::default(),
            leftovers: Leftovers::default(),
            gauges: PlanGauges::of(plugin),
        }
    }

    /// Number of a new tunnel connection: the higher, the newer.
    pub(crate) fn next_tunnel(&self) -> u64 {
        self.tunnels.set(self.tunnels.get().wrapping_add(1));
        self.tunnels.get()
    }

    /// Whether that tunnel connection is the newest.
    pub(crate) fn is_newest(&self, tunnel: u64) -> bool {
        self.tunnels.get() == tunnel
    }

    /// Whether calls go by the plan.
    fn has_calls(&self) -> bool {
        self.tunnels.get() > 0 && self.plan.borrow().is_some()
    }

    /// What workers share of lines for files.
    pub(crate) fn leftovers(&self) -> &Leftovers {
        &self.leftovers
    }

    /// The plan that is in force.
    pub(crate) fn current(&self) -> Option<Rc<Plan>> {
        self.plan.borrow().clone()
    }

    fn put(&self, text: Vec<u8>, plan: Plan) {
        log::info!("meltemi: plan with {} services is now active", plan.services().count());
        self.gauges.take(&text);
        report::check(plan.istio.as_ref());
        *self.plan.borrow_mut() = Some(Rc::new(plan));
        *self.text.borrow_mut() = text;
    }

    /// Puts a plan in force that has been read; whether it can be.
    fn decide(&self, json: Vec<u8>, plan: Result<Plan, PlanError>, source: Source) -> bool {
        match plan {
            Ok(plan) => {
                let is_first = self.current().is_none();
                if source == Source::Configuration && !is_first && self.is_overtaken(&json) {
                    return true;
                }
                self.put(json, plan);
                if source == Source::Configuration {
                    self.publish(is_first);
                }
                return true;
            }
            Err(error) if source == Source::Configuration => {
                log::error!("meltemi: plan refused: {error}");
                // What was published may not have been read to its end for this one.
                self.revision.set(None);
            }
            // Its own VM understood it.
            Err(error) => log::warn!(
                "meltemi: the plan of another module is refused, connections of this one keep theirs: {error}"
            ),
        }
        self.gauges.refuse(&json);
        false
    }

    /// Keeps the plan in force if it has this text, as what was wanted last; whether it has.
    fn confirm(&self, text: &[u8]) -> bool {
        let has = self.plan.borrow().is_some() && *self.text.borrow() == text;
        if has {
            self.gauges.take(text);
            self.publish(false);
        }
        has
    }

    /// Notes that a text is known here, if it is published.
    fn recognize(&self, text: &[u8]) {
        if let Some((_, change)) = host::shared_data(&self.key).filter(|(published, _)| published == text) {
            self.known.set(change);
        }
    }

    /// Whether another text was published since: it is looked at next.
    fn is_overtaken(&self, text: &[u8]) -> bool {
        let is_news = |(published, change): (Vec<u8>, u32)| published != text && change != self.known.get();
        host::shared_data(&self.key).is_some_and(is_news)
    }

    /// Publishes the plan in force, unless what is published is not known here: that is newer, then, and is looked at
    /// next. What a new VM finds is older than its first plan, which another build of the module brought.
    fn publish(&self, is_first: bool) {
        self.revision.set(None);
        let text = self.text.borrow();
        let published = || host::shared_data(&self.key);
        let replaced = match published() {
            Some((known, change)) if known == *text => return self.known.set(change),
            Some((_, change)) if !is_first && change != self.known.get() => return,
            Some((_, change)) => change,
            None => host::NO_CHANGE,
        };
        if host::set_shared_data(&self.key, &text, replaced) {
            host::set_shared_data(&self.revision_key, b"changed", 0);
        }
        // Another VM may have been quicker with the same text, which is then no news to this one either.
        let same = published().filter(|(known, _)| known == &*text);
        self.known.set(same.map_or(0, |(_, change)| change));
    }

    /// The published text, if it is another than that of the plan in force.
    fn news(&self) -> Option<Vec<u8>> {
        let (_, revision) = host::shared_data(&self.revision_key)?;
        if self.revision.replace(Some(revision)) == Some(revision) {
            return None;
        }
        let (text, change) = host::shared_data(&self.key)?;
        self.known.set(change);
        (text != *self.text.borrow()).then_some(text)
    }
}

thread_local! {
    static PLANS: RefCell<Vec<(Vec<u8>, Rc<PlanCell>)>> = RefCell::default();
}

/// One configuration of the plugin.
pub(crate) struct Root {
    codecs: Codecs,
    plan: Rc<PlanCell>,
    /// It is called as often as a plan is read on.
    is_reading: bool,
}

impl Root {
    pub(crate) fn new(codecs: Codecs) -> Self {
        let name = host::property("plugin_name").unwrap_or_default();
        let plan = PLANS.with_borrow_mut(|plans| {
            // An Envoy has a few.
            if let Some((_, plan)) = plans.iter().find(|(known, _)| *known == name) {
                return plan.clone();
            }
            let plan = Rc::new(PlanCell::new(&name));
            plans.push((name, plan.clone()));
            plan
        });
        Self { codecs, plan, is_reading: false }
    }

    /// A new connection.
    pub(crate) fn stream(&self) -> Stream {
        Stream::new(self.plan.clone())
    }

    /// Takes the plan of the configuration, of so many bytes; whether it can, as far as that is known at once: the VM of
    /// Envoy's main thread, which has no calls, was the first to be asked.
    pub(crate) fn configure(&mut self, size: usize) -> bool {
        let json = if size == 0 { Vec::new() } else { host::buffer(host::Buffer::Configuration, size) };
        let can = self.take(json, Source::Configuration);
        if can && !self.is_reading {
            host::tick_every(LOOK);
        }
        if can && host::monotonic_time().is_none() {
            log::warn!("meltemi: the host has no monotonic time: timeouts follow the machine's clock");
        }
        can
    }

    /// Reads on in the plan that is to come, or looks for one that another VM has published.
    pub(crate) fn look(&mut self) {
        if let Some(next) = self.plan.next.take() {
            self.read(next, 0);
        } else if let Some(json) = self.plan.news() {
            self.take(json, Source::OtherVm);
        } else if core::mem::take(&mut self.is_reading) {
            host::tick_every(LOOK);
        }
    }

    /// Takes a plan, or begins to; whether it can.
    fn take(&mut self, json: Vec<u8>, source: Source) -> bool {
        // Whatever is being read is older.
        self.plan.next.take();
        if source == Source::Configuration {
            self.plan.recognize(&json);
            if self.plan.confirm(&json) {
                return true;
            }
        }
        let parsing = Parsing::of_proxy(json, self.codecs.clone(), has_tap);
        if self.plan.has_calls() {
            return self.read(Next { parsing, source }, FIRST_STEPS).unwrap_or(true);
        }
        let (json, plan) = parsing.finish();
        self.plan.decide(json, plan, source)
    }

    /// Reads for a while, and so many steps at least. At the end: whether the plan is in force.
    fn read(&mut self, mut next: Next, steps: usize) -> Option<bool> {
        let began = host::now();
        for step in 1_usize.. {
            if let Some((json, plan)) = next.parsing.go_on() {
                return Some(self.plan.decide(json, plan, next.source));
            }
            if step >= steps && host::now().since(began) >= SLICE {
                break;
            }
        }
        self.plan.next.replace(Some(next));
        self.is_reading = true;
        host::tick_every(BREAK);
        None
    }
}

#[cfg(test)]
impl Root {
    /// The JSON text of the plan in force.
    pub(crate) fn plan_text(&self) -> Vec<u8> {
        self.plan.text.borrow().clone()
    }
}
