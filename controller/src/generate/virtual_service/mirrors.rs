//! Who gets copies of the calls of a VirtualService's route.

use crate::generate::draft::{Mirror, Target};
use crate::generate::report::Remarks;
use crate::istio::{Destination, HttpRoute, Percentage};

/// The mirrors of a route, `target` being what a destination means. As with Istio, a share that is not written is all, and one of 0
/// is no mirror.
pub(super) fn mirrors(
    route: &HttpRoute,
    target: impl Fn(&Destination) -> Target,
    say: &mut Remarks<'_>,
) -> Vec<Mirror> {
    let older = route.mirror_percent.map(|percent| ("mirrorPercent".to_owned(), percent.into()));
    let newer = |Percentage { value }| ("mirrorPercentage.value".to_owned(), value);
    let share = route.mirror_percentage.map(newer).or(older);
    let first = route.mirror.as_ref().map(|to| ("mirror".to_owned(), to, share));
    let others = route.mirrors.iter().enumerate().map(|(at, mirror)| {
        let share = |Percentage { value }| (format!("mirrors[{at}].percentage.value"), value);
        (format!("mirrors[{at}].destination"), &mirror.destination, mirror.percentage.map(share))
    });
    let mirror = |(field, to, share): (String, &Destination, Option<(String, f64)>)| {
        let percent = match share {
            None => 100.0,
            Some((field, percent)) if !(0.0..=100.0).contains(&percent) => {
                say.not_honoured(&field, format!("{percent} is no share: write 0 to 100"));
                return None;
            }
            Some((_, percent)) => percent,
        };
        (percent > 0.0).then(|| Mirror { target: target(to), percent, field })
    };
    first.into_iter().chain(others).filter_map(mirror).collect()
}
