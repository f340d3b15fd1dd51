//! The routes that a plan lists: a few of them are read at a time, so that ten thousand do not take memory at once.

use super::{
    PlanError,
    compile::AUTO,
    error::{Path, Result},
    json::Json,
    raw, reader,
};

/// The routes of one service.
#[derive(Clone, Copy)]
pub(super) enum Listed<'a> {
    /// In the document.
    Written(&'a [Json<'a>]),
    /// As they were read, or made.
    Made(&'a [raw::Route]),
}

/// How many are read at a time.
const PART: usize = 64;

impl Listed<'_> {
    /// Does something with each of them, whose list is at `path`, and its number.
    pub(super) fn each(
        self,
        path: &Path<'_>,
        mut act: impl FnMut(usize, &raw::Route) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0_usize;
        let mut act = |route: &raw::Route| {
            act(number, route)?;
            number = number.saturating_add(1);
            Ok(())
        };
        match self {
            Self::Made(routes) => routes.iter().try_for_each(act),
            Self::Written(routes) => {
                for (at, part) in routes.chunks(PART).enumerate() {
                    let read: Vec<raw::Route> = reader::elements(part, at.saturating_mul(PART), path)
                        .map_err(|fault| Box::new(PlanError::from(fault)))?;
                    read.iter().try_for_each(&mut act)?;
                }
                Ok(())
            }
        }
    }
}

/// Takes the routes of each service out of a document, which is left with none. Those of a service that is compiled for
/// each of several protocols stay.
pub(super) fn take<'a>(document: &mut Json<'a>) -> Vec<Option<Vec<Json<'a>>>> {
    let services = document.member("services").into_iter().flat_map(Json::members);
    let routes = services.map(|(_, service)| {
        let is_auto = matches!(service.member("protocol"), Some(Json::String(name)) if **name == *AUTO);
        match service.member("routes").filter(|_| !is_auto) {
            Some(Json::Array(routes)) => Some(core::mem::take(routes)),
            _ => None,
        }
    });
    routes.collect()
}
