//! A policy of either kind, in the terms that both have in common.

use kube::api::ObjectMeta;

use super::alternatives::Parts;
use crate::api::aeraki::{AuthorizationAction, DubboAuthorizationPolicy};
use crate::api::{MeltemiAuthorizationPolicy, RuleSource};
use crate::check;
use crate::findings::{Finding, ResourceRef};
use crate::generate::reader::Reader;

/// The codec that Aeraki's policies are for.
pub(super) const DUBBO: &str = "dubbo";

/// A policy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Policy<'a> {
    /// Aeraki's.
    Dubbo(&'a DubboAuthorizationPolicy),
    /// Meltemi's own.
    Own(&'a MeltemiAuthorizationPolicy),
}

impl<'a> Policy<'a> {
    pub(super) fn metadata(self) -> &'a ObjectMeta {
        match self {
            Self::Dubbo(policy) => &policy.metadata,
            Self::Own(policy) => &policy.metadata,
        }
    }

    pub(super) fn namespace(self) -> &'a str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn origin(self) -> ResourceRef {
        match self {
            Self::Dubbo(policy) => ResourceRef::of(policy),
            Self::Own(policy) => ResourceRef::of(policy),
        }
    }

    /// What the names of its routes begin with. Two policies of one name may be of different kinds.
    pub(super) fn title(self) -> String {
        let name = self.metadata().name.as_deref().unwrap_or_default();
        match self {
            Self::Dubbo(_) => format!("{}/{name}", self.namespace()),
            Self::Own(_) => format!("{}/meltemi/{name}", self.namespace()),
        }
    }

    pub(super) fn action(self) -> AuthorizationAction {
        match self {
            Self::Dubbo(policy) => policy.spec.action,
            Self::Own(policy) => policy.spec.action,
        }
    }

    pub(super) fn denies(self) -> bool {
        self.action() == AuthorizationAction::Deny
    }

    pub(super) fn is_dry_run(self) -> bool {
        matches!(self, Self::Own(policy) if policy.spec.dry_run)
    }

    /// What clients are told.
    pub(super) fn message(self) -> &'a str {
        let message = match self {
            Self::Dubbo(_) => None,
            Self::Own(policy) => policy.spec.message.as_deref(),
        };
        message.unwrap_or("RBAC: access denied")
    }

    /// Whether it is for servers whose calls are read so.
    pub(super) fn is_for(self, reader: &Reader) -> bool {
        match self {
            Self::Dubbo(_) => reader.may_be(DUBBO),
            Self::Own(policy) => {
                let protocols = &policy.spec.protocols;
                protocols.is_empty() || protocols.iter().any(|protocol| reader.may_be(protocol))
            }
        }
    }

    /// How many rules it has.
    pub(super) fn count(self) -> usize {
        match self {
            Self::Dubbo(policy) => policy.spec.rules.len(),
            Self::Own(policy) => policy.spec.rules.len(),
        }
    }

    /// The sources of a rule.
    fn sources(self, rule: usize) -> Vec<RuleSource> {
        match self {
            Self::Dubbo(policy) => {
                let rule = policy.spec.rules.get(rule).into_iter();
                rule.flat_map(|rule| &rule.from).map(|from| RuleSource::from(&from.source)).collect()
            }
            Self::Own(policy) => {
                let rule = policy.spec.rules.get(rule).into_iter();
                rule.flat_map(|rule| &rule.from).map(|from| from.source.clone()).collect()
            }
        }
    }

    /// Whether a rule depends on the identity of the client.
    pub(super) fn asks_who(self, rule: usize) -> bool {
        let asks = |source: &RuleSource| {
            let RuleSource { principals, not_principals, namespaces, not_namespaces, .. } = source;
            [principals, not_principals, namespaces, not_namespaces].iter().any(|list| !list.is_empty())
        };
        self.sources(rule).iter().any(asks)
    }

    /// What a rule asks of calls that are read so.
    pub(super) fn parts(self, rule: usize, reader: &Reader) -> Parts<'a> {
        match self {
            Self::Dubbo(policy) => match policy.spec.rules.get(rule) {
                Some(rule) => Parts::of_operations(rule, policy.spec.action),
                None => Parts::default(),
            },
            Self::Own(policy) => match policy.spec.rules.get(rule) {
                Some(rule) => Parts::of_attributes(rule, policy.spec.action, reader),
                None => Parts::default(),
            },
        }
    }

    pub(super) fn check(self) -> Vec<Finding> {
        match self {
            Self::Dubbo(policy) => check::dubbo_authorization_policy(policy),
            Self::Own(policy) => check::meltemi_authorization_policy(policy),
        }
    }

    /// The field below a rule that a value of the plan's route was made of, by the numbers of the source and the operation.
    pub(super) fn field(
        self,
        rule: usize,
        (from, to): (usize, usize),
        attribute: &str,
        is_unwanted: bool,
    ) -> Option<String> {
        let pick = |values: &[String], name: &'static str, not: &'static str| {
            if is_unwanted || values.is_empty() { not } else { name }
        };
        let source = || self.sources(rule).into_iter().nth(from);
        let of_source = match attribute {
            "source.principal" => Some(pick(&source()?.principals, "principals", "notPrincipals")),
            "source.namespace" => Some(pick(&source()?.namespaces, "namespaces", "notNamespaces")),
            "source.ip" => Some(pick(&source()?.ip_blocks, "ipBlocks", "notIpBlocks")),
            _ => None,
        };
        if let Some(field) = of_source {
            return Some(format!("from[{from}].source.{field}"));
        }
        match self {
            Self::Dubbo(policy) => {
                let operation = &policy.spec.rules.get(rule)?.to.get(to)?.operation;
                let field = match attribute {
                    "interface" => pick(&operation.interfaces, "interfaces", "notInterfaces"),
                    _ => pick(&operation.methods, "methods", "notMethods"),
                };
                Some(format!("to[{to}].operation.{field}"))
            }
            Self::Own(policy) => {
                let when = &policy.spec.rules.get(rule)?.when;
                let key = if attribute == "genericMethod" { "method" } else { attribute };
                let at = when.iter().position(|when| when.key == key)?;
                Some(format!("when[{at}].{}", pick(&when.get(at)?.values, "values", "notValues")))
            }
        }
    }
}
