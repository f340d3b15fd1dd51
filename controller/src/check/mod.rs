//! The rules of the custom resources: everything that Aeraki's webhook refuses, what it forgot, and Meltemi's own.
//!
//! Each function is pure and looks at one resource. What needs the others is said by [`crate::generate`].

mod fields;
mod kinds;
mod limits;
mod matchers;
mod names;
mod notes;
mod policy;
mod redis;
mod router;
mod tap;
mod text;

use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{self, MetaRouterSpec, aeraki};
use crate::crds;
use crate::findings::{Finding, Severity};
use crate::kinds::kinds;
use crate::words;
use notes::Notes;

pub use kinds::stranger;
pub use names::{is_label, is_subdomain, names};
pub(crate) use policy::AUTO;
pub(crate) use text::{KEY_BYTES, MOST_OF_NAMESPACE, is_no_route_name};

/// Checks a router.
pub fn meta_router(router: &api::MetaRouter) -> Vec<Finding> {
    of_spec(|notes| router::router(notes, &router.spec, &router.namespace().unwrap_or_default(), false))
}

/// Checks a router of Aeraki's.
pub fn aeraki_meta_router(router: &aeraki::MetaRouter) -> Vec<Finding> {
    let spec = MetaRouterSpec::from(router.spec.clone());
    of_spec(|notes| router::router(notes, &spec, &router.namespace().unwrap_or_default(), true))
}

/// Checks the name of a protocol and its codec.
pub fn application_protocol(protocol: &aeraki::ApplicationProtocol) -> Vec<Finding> {
    of_spec(|notes| policy::application_protocol(notes, &protocol.spec))
}

/// Checks a protocol that is declared.
pub fn declared_protocol(protocol: &api::ApplicationProtocol) -> Vec<Finding> {
    of_spec(|notes| policy::declared_protocol(notes, &protocol.spec))
}

/// Checks how Redis commands are routed.
pub fn redis_service(service: &aeraki::RedisService) -> Vec<Finding> {
    of_spec(|notes| redis::service(notes, &service.spec))
}

/// Checks how a Redis service is connected to.
pub fn redis_destination(destination: &aeraki::RedisDestination) -> Vec<Finding> {
    of_spec(|notes| redis::destination(notes, &destination.spec))
}

/// Checks who may call what.
pub fn dubbo_authorization_policy(policy: &aeraki::DubboAuthorizationPolicy) -> Vec<Finding> {
    of_spec(|notes| policy::dubbo_authorization(notes, &policy.spec))
}

/// Checks who may call what in every protocol.
pub fn meltemi_authorization_policy(policy: &api::MeltemiAuthorizationPolicy) -> Vec<Finding> {
    of_spec(|notes| policy::meltemi_authorization(notes, &policy.spec))
}

/// Checks which calls are told of one by one.
pub fn tap(tap: &api::Tap) -> Vec<Finding> {
    of_spec(|notes| tap::tap(notes, &tap.spec))
}

fn of_spec(look: impl FnOnce(&mut Notes)) -> Vec<Finding> {
    let mut notes = Notes::default();
    notes.field("spec", look);
    notes.into_findings()
}

/// Checks an object as it was written: its shape, fields that its kind does not have, and the rules. `None` if it is
/// none of the kinds with rules.
pub fn object(object: &Value) -> Option<Vec<Finding>> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let kind = text("kind");
    macro_rules! typed {
        (
            kubernetes { $($_k:tt)* }
            few { $($_f:tt)* }
            istio { $($_i:tt)* }
            ours { $($(#[$_o:meta])* $_field:ident: $type:ty, $rules:ident;)* }
        ) => {
            match (group, kind) {
                $((of, one) if of == <$type>::group(&()) && one == <$type>::kind(&()) => typed(object, $rules),)*
                _ => return None,
            }
        };
    }
    let check = kinds!(typed);
    let mut findings = unknown_fields(object, group, kind);
    let misread = |path: &str| findings.iter().any(|known| is_within(path, &known.path));
    let check: Vec<_> = check.into_iter().filter(|finding| !misread(&finding.path)).collect();
    findings.extend(check);
    Some(findings)
}

/// Whether a path is another or below it.
fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn typed<T: DeserializeOwned>(object: &Value, check: impl FnOnce(&T) -> Vec<Finding>) -> Vec<Finding> {
    match serde_path_to_error::deserialize(object) {
        Ok(read) => check(&read),
        Err(error) => {
            let path = match error.path().to_string() {
                root if root == "." => String::new(),
                path => path,
            };
            let message = words::shape(&error.inner().to_string());
            vec![Finding { severity: Severity::Error, path, message }]
        }
    }
}

/// What the schema of the kind does not have. The API server knows those of the metadata itself.
fn unknown_fields(object: &Value, group: &str, kind: &str) -> Vec<Finding> {
    let Some(schema) = crds::schema(group, kind) else { return Vec::new() };
    let mut notes = Notes::default();
    for (name, value) in object.as_object().into_iter().flatten() {
        match &**name {
            "apiVersion" | "kind" | "metadata" | "status" => {}
            "spec" => notes.field(name, |notes| fields::unknown(notes, value, &schema["properties"]["spec"])),
            _ => notes.error_at(name, "unknown field; everything belongs under spec"),
        }
    }
    notes.into_findings()
}
