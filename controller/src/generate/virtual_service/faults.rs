//! The faults of a VirtualService's route, as the plan has them.

use serde_json::{Map, Value, json};

use super::duration::{duration, written};
use crate::generate::report::Remarks;
use crate::istio::{Fault, HttpFault};

/// The plan's fault, if calls have any. Says what of it is not honoured.
pub(super) fn fault(fault: &HttpFault, say: &mut Remarks<'_>) -> Option<Value> {
    let delay = fault.delay.as_ref().and_then(|fault| delay(fault, say));
    let abort = fault.abort.as_ref().and_then(|fault| abort(fault, say));
    let parts = [("delay", delay), ("abort", abort)].into_iter();
    let parts: Map<String, Value> = parts.filter_map(|(name, part)| Some((name.to_owned(), part?))).collect();
    (!parts.is_empty()).then(|| parts.into())
}

fn delay(fault: &Fault, say: &mut Remarks<'_>) -> Option<Value> {
    let percent = percent(fault, "fault.delay", say)?;
    for field in fault.others.keys() {
        say.not_honoured(&format!("fault.delay.{field}"), "calls are delayed by fixedDelay alone");
    }
    let field = "fault.delay.fixedDelay";
    let duration = duration(fault.fixed_delay.as_deref()?, field, say)?;
    if duration.is_zero() {
        return None;
    }
    Some(json!({"duration": written(duration), "percent": percent}))
}

fn abort(fault: &Fault, say: &mut Remarks<'_>) -> Option<Value> {
    let percent = percent(fault, "fault.abort", say)?;
    for field in fault.others.keys() {
        let message = "RPC clients get their protocol's own error instead";
        say.warn(&format!("fault.abort.{field}"), message);
    }
    Some(json!({"percent": percent}))
}

/// The share of the calls. As with Istio, it is none if it is not written.
fn percent(fault: &Fault, field: &str, say: &mut Remarks<'_>) -> Option<f64> {
    let (field, percent) = match (fault.percentage, fault.percent) {
        (Some(percentage), _) => (format!("{field}.percentage.value"), percentage.value),
        (None, Some(percent)) => (format!("{field}.percent"), percent.into()),
        (None, None) => {
            say.warn(field, "names no percentage: no call is affected");
            return None;
        }
    };
    if !(0.0..=100.0).contains(&percent) {
        say.not_honoured(&field, format!("{percent} is no share: write 0 to 100"));
        return None;
    }
    (percent > 0.0).then_some(percent)
}
