//! The rules of the kinds that name protocols and callers.

use super::notes::Notes;
use super::text;
use crate::api;
use crate::api::aeraki::{ApplicationProtocolSpec, AuthorizationAction, DubboAuthorizationPolicySpec};
use meltemi_proxy::plan;

/// What ports of several protocols are called, and what plans call such services.
pub(crate) const AUTO: &str = "auto";

/// What can be checked without the module: [`crate::generate`] knows its codecs.
pub(super) fn application_protocol(notes: &mut Notes, spec: &ApplicationProtocolSpec) {
    protocol_name(notes, &spec.protocol);
    text::not_empty(notes, "codec", &spec.codec, "name the codec that reads the protocol, such as dubbo");
}

/// A layout is checked by the filter's own code.
pub(super) fn declared_protocol(notes: &mut Notes, spec: &api::ApplicationProtocolSpec) {
    protocol_name(notes, &spec.protocol);
    if spec.protocol.is_empty() {
        return;
    }
    if let Err(error) = plan::layout(&spec.protocol, &spec.layout) {
        notes.field("layout", |notes| notes.error_below(&error.path, error.message));
    }
}

fn protocol_name(notes: &mut Notes, protocol: &str) {
    let mend = "write <protocol> of the port names tcp-metaprotocol-<protocol>";
    text::not_empty(notes, "protocol", protocol, mend);
    if protocol.eq_ignore_ascii_case(AUTO) {
        notes.field("protocol", |notes| notes.error("stands for several protocols: choose another name"));
    }
    if protocol.contains('-') {
        notes.field("protocol", |notes| {
            notes.warn(
                "has a hyphen, where names of ports end the protocol: only appProtocol: meltemi.io/<protocol> can name it",
            );
        });
    }
}

pub(super) fn dubbo_authorization(notes: &mut Notes, spec: &DubboAuthorizationPolicySpec) {
    if spec.rules.is_empty() {
        notes.field("rules", |notes| {
            notes.warn(match spec.action {
                AuthorizationAction::Allow => "no rules: nothing of the namespace may be called",
                AuthorizationAction::Deny => "no rules: nothing is denied",
            });
        });
    }
    notes.each("rules", &spec.rules, |notes, rule| {
        notes.each("from", &rule.from, |notes, from| {
            notes.field("source", |notes| source(notes, &(&from.source).into()));
        });
        notes.each("to", &rule.to, |notes, to| {
            let operation = &to.operation;
            notes.field("operation", |notes| {
                interfaces(notes, "interfaces", &operation.interfaces);
                interfaces(notes, "notInterfaces", &operation.not_interfaces);
                wildcards(notes, "methods", &operation.methods);
                wildcards(notes, "notMethods", &operation.not_methods);
            });
        });
    });
}

pub(super) fn meltemi_authorization(notes: &mut Notes, spec: &api::MeltemiAuthorizationPolicySpec) {
    if spec.rules.is_empty() {
        notes.field("rules", |notes| {
            notes.warn(match spec.action {
                AuthorizationAction::Allow => "no rules: nothing that the policy is for may be called",
                AuthorizationAction::Deny => "no rules: nothing is denied",
            });
        });
    }
    notes.each("protocols", &spec.protocols, |notes, protocol| {
        if protocol.is_empty() {
            notes.error("is empty; write a protocol such as thrift, or leave the list out for all");
        }
    });
    if spec.message.as_ref().is_some_and(|message| message.is_empty() || message.len() > 1024) {
        notes.field("message", |notes| {
            notes.error("is empty, or has over 1024 bytes; leave it out, or tell clients why in fewer words");
        });
    }
    notes.each("rules", &spec.rules, |notes, rule| {
        notes.each("from", &rule.from, |notes, from| {
            notes.field("source", |notes| source(notes, &from.source));
        });
        let keys: Vec<&str> = rule.when.iter().map(|when| &*when.key).collect();
        notes.each("when", &rule.when, |notes, when| {
            let mend = match &*when.key {
                "" => Some("is empty; name an attribute of the call, such as method"),
                "genericMethod" => Some("is part of what method means; write key: method"),
                key if key.starts_with(plan::source::PREFIX) => {
                    Some("is the connection's; write principals, namespaces or ipBlocks under from")
                }
                key if keys.iter().filter(|other| **other == key).count() > 1 => {
                    Some("stands more than once in the rule; put its values into one entry")
                }
                _ => None,
            };
            if let Some(mend) = mend {
                notes.field("key", |notes| notes.error(mend));
            }
            if when.values.is_empty() && when.not_values.is_empty() {
                notes.error("asks for nothing; write values or notValues");
            }
            let check = if when.key == "interface" { interfaces } else { wildcards };
            check(notes, "values", &when.values);
            check(notes, "notValues", &when.not_values);
        });
    });
}

fn source(notes: &mut Notes, source: &api::RuleSource) {
    wildcards(notes, "principals", &source.principals);
    wildcards(notes, "notPrincipals", &source.not_principals);
    wildcards(notes, "namespaces", &source.namespaces);
    wildcards(notes, "notNamespaces", &source.not_namespaces);
    blocks(notes, "ipBlocks", &source.ip_blocks);
    blocks(notes, "notIpBlocks", &source.not_ip_blocks);
}

/// Blocks of addresses, as the filter reads them.
fn blocks(notes: &mut Notes, field: &str, values: &[String]) {
    notes.each(field, values, |notes, value| {
        if let Err(error) = plan::check_block(value) {
            notes.error(error);
        }
    });
}

/// Names of interfaces. Servers put groups before a slash and versions behind a colon; calls that do so themselves are denied.
fn interfaces(notes: &mut Notes, field: &str, values: &[String]) {
    wildcards(notes, field, values);
    notes.each(field, values, |notes, value| {
        if value.contains([':', '/']) {
            notes.error(format_args!(
                "{value:?} is no interface: write it without group, version and path; rules hold for it in all of them"
            ));
        }
    });
}

fn wildcards(notes: &mut Notes, field: &str, values: &[String]) {
    notes.each(field, values, |notes, value| {
        if value.is_empty() {
            notes.error("is empty, which nothing is; write a value, or * for any");
        } else if value != "*"
            && value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value).contains('*')
        {
            notes.error(format_args!(
                "{value:?} has * within it; only prefix*, *suffix and * alone are understood"
            ));
        }
    });
}
