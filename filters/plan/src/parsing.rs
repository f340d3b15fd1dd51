//! Reading a plan a little at a time: ten thousand routes take as long as thousands of calls, which need not wait for it.

use core::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use meltemi_codecs::Codecs;

use super::{Plan, PlanError, raw};

/// The text, and what was read.
type Read = (Vec<u8>, Result<Plan, PlanError>);

/// A plan that is being read.
pub struct Parsing(Pin<Box<dyn Future<Output = Read>>>);

impl Parsing {
    /// Is to read a plan, as [`Plan::parse`] does.
    pub fn new(json: Vec<u8>, codecs: Codecs) -> Self {
        Self::of_proxy(json, codecs, |_| true)
    }

    /// The same for a proxy that has some of the taps, of which the others are not looked at.
    pub fn of_proxy(json: Vec<u8>, codecs: Codecs, has: fn(&raw::Tap) -> bool) -> Self {
        Self(Box::pin(async move {
            let plan = Plan::read(&json, &codecs, has).await;
            (json, plan)
        }))
    }

    /// Reads all that is left.
    pub fn finish(mut self) -> Read {
        loop {
            if let Some(read) = self.go_on() {
                return read;
            }
        }
    }

    /// Reads a little more: a few dozen routes, or all of the text, or what is to be done with all routes together. At the
    /// end, after which it is not to be called again, it gives back the text, and has the plan or the first fault.
    pub fn go_on(&mut self) -> Option<Read> {
        step(self.0.as_mut())
    }
}

/// Ends a step of what reads a plan.
pub(super) async fn pause() {
    let mut is_over = false;
    poll_fn(|_| if core::mem::replace(&mut is_over, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Takes all steps of what reads a plan, one after the other.
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Some(done) = step(work.as_mut()) {
            return done;
        }
    }
}

/// What waits for nothing but its next turn needs no waker.
fn step<T>(work: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match work.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}
