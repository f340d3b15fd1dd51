//! What plans are refused, and what those that are not do.
#![allow(clippy::arithmetic_side_effects)]

mod access_logs;
mod guards;
mod index;
mod layouts;
mod matching;
mod packed;
mod parsing;
mod policies;
mod refusals;
mod taps;

use std::rc::Rc;

use meltemi_codecs::{Codec, Codecs, Depth, Edit, Error, Failure, Head, Operation, Peer, Sharing, Step};
use serde_json::{Value, json};

use super::{Plan, PlanError};

/// A protocol with the names that plans use, and no frames.
pub(super) struct Toy;

const STATUSES: [(u32, &str); 4] =
    [(20, "OK"), (31, "SERVER_TIMEOUT"), (80, "SERVICE_ERROR"), (100, "SERVER_THREADPOOL_EXHAUSTED_ERROR")];

impl Codec for Toy {
    fn name(&self) -> &str {
        "toy"
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    fn max_id(&self) -> u64 {
        u64::MAX
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: "interface", method: "method" }
    }

    fn depth(&self, name: &str) -> Depth {
        match name {
            "interface" | "method" => Depth::Operation,
            "version" => Depth::Head,
            _ => Depth::Attachments,
        }
    }

    fn split(&self, _: Peer, _: &[u8], _: usize) -> Result<Step, Error> {
        Ok(Step::NeedMore { at_least: usize::MAX })
    }

    fn head(&self, _: &[u8], _: Depth, _: &mut Head) -> Result<(), Error> {
        Ok(())
    }

    fn rewrite(&self, _: &[u8], _: &Edit<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    fn error_reply(&self, _: &[u8], _: Failure, _: &str, _: &mut Vec<u8>) {}

    fn heartbeat_reply(&self, _: &[u8], _: &mut Vec<u8>) {}

    fn status_name(&self, status: u32) -> Option<&str> {
        STATUSES.iter().find(|(code, _)| *code == status).map(|(_, name)| *name)
    }

    fn status_code(&self, name: &str) -> Option<u32> {
        STATUSES.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
    }
}

pub(super) fn codecs() -> Codecs {
    Codecs::new([Rc::new(Toy) as Rc<dyn Codec>])
}

pub(super) fn parse(plan: &Value) -> Result<Plan, PlanError> {
    Plan::parse(plan.to_string().as_bytes(), &codecs())
}

/// A plan of the service `demo` with these members.
pub(super) fn demo(members: Value) -> Value {
    let mut service = json!({"protocol": "toy"});
    service.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    json!({"services": {"demo": service}})
}

/// A plan of the service `demo` with one route of these members.
pub(super) fn route(members: Value) -> Value {
    let mut route = json!({"name": "r"});
    route.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    demo(json!({"routes": [route]}))
}

/// A head with these attributes.
pub(super) fn head(attributes: &[(&str, &str)]) -> Head {
    let mut head = Head::new();
    for (name, value) in attributes {
        head.push(name, value);
    }
    head
}
