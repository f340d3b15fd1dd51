//! The faults of a VirtualService's route, as the plan has them.

use meltemi_proxy::plan::raw;

use crate::generate::duration::duration;
use crate::generate::report::Remarks;
use crate::istio::{Fault, HttpFault};

/// The plan's fault, if calls have any. Says what of it is not honoured.
pub(super) fn fault(fault: &HttpFault, say: &mut Remarks<'_>) -> Option<raw::Fault> {
    let delay = fault.delay.as_ref().and_then(|fault| delay(fault, say));
    let abort = fault.abort.as_ref().and_then(|fault| abort(fault, say));
    (delay.is_some() || abort.is_some()).then_some(raw::Fault { delay, abort })
}

fn delay(fault: &Fault, say: &mut Remarks<'_>) -> Option<raw::Delay> {
    let percent = percent(fault, "fault.delay", say)?;
    for field in fault.others.keys() {
        say.not_honoured(&format!("fault.delay.{field}"), "calls are delayed by fixedDelay alone");
    }
    let field = "fault.delay.fixedDelay";
    let duration = duration(fault.fixed_delay.as_deref()?, field, say)?;
    duration.limit().map(|_| raw::Delay { duration, percent })
}

fn abort(fault: &Fault, say: &mut Remarks<'_>) -> Option<raw::Abort> {
    let percent = percent(fault, "fault.abort", say)?;
    for field in fault.others.keys() {
        let message = "RPC clients get their protocol's own error instead";
        say.warn(&format!("fault.abort.{field}"), message);
    }
    Some(raw::Abort { message: None, percent })
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
