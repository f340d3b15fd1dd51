//! The routes that a plan lists: a few of them are read at a time, so that ten thousand do not take memory at once.

use std::borrow::Cow;

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

impl<'a> Listed<'a> {
    /// All of them, whose list is at `path`, a few at a time.
    pub(super) fn parts(
        self,
        path: &'a Path<'a>,
    ) -> impl Iterator<Item = Result<Cow<'a, [raw::Route]>>> + use<'a> {
        let (written, made): (&[Json<'a>], &[raw::Route]) = match self {
            Self::Written(routes) => (routes, &[]),
            Self::Made(routes) => (&[], routes),
        };
        let read = move |(at, part): (usize, &'a [Json<'a>])| {
            let read = reader::elements(part, at.saturating_mul(PART), path);
            read.map(Cow::Owned).map_err(|fault| Box::new(PlanError::from(fault)))
        };
        let made = made.chunks(PART).map(|part| Ok(Cow::Borrowed(part)));
        written.chunks(PART).enumerate().map(read).chain(made)
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
