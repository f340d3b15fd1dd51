//! A policy of either kind, in the terms that both have in common.

use kube::api::ObjectMeta;

use super::alternatives::Parts;
use crate::api::MeltemiAuthorizationPolicy;
use crate::api::aeraki::{AuthorizationAction, DubboAuthorizationPolicy, Source};
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

    /// Whether a rule depends on the identity of the client.
    pub(super) fn asks_who(self, rule: usize) -> bool {
        match self {
            Self::Dubbo(policy) => policy
                .spec
                .rules
                .get(rule)
                .is_some_and(|rule| rule.from.iter().any(|from| from.source != Source::default())),
            Self::Own(policy) => policy.spec.rules.get(rule).is_some_and(|rule| {
                let asks = |source: &crate::api::RuleSource| {
                    let lists = [
                        &source.principals,
                        &source.not_principals,
                        &source.namespaces,
                        &source.not_namespaces,
                    ];
                    lists.iter().any(|list| !list.is_empty())
                };
                rule.from.iter().any(|from| asks(&from.source))
            }),
        }
    }

    /// What a rule asks of the calls of servers that may speak Dubbo, or do not.
    pub(super) fn parts(self, rule: usize, is_dubbo: bool) -> Parts<'a> {
        match self {
            Self::Dubbo(policy) => match policy.spec.rules.get(rule) {
                Some(rule) => Parts::of_operations(rule, policy.spec.action),
                None => Parts::default(),
            },
            Self::Own(policy) => match policy.spec.rules.get(rule) {
                Some(rule) => Parts::of_attributes(rule, policy.spec.action, is_dubbo),
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
        match self {
            Self::Dubbo(policy) => {
                let rule = policy.spec.rules.get(rule)?;
                let source = || rule.from.get(from).map(|from| &from.source);
                let operation = || rule.to.get(to).map(|to| &to.operation);
                Some(match attribute {
                    "source.principal" => {
                        format!(
                            "from[{from}].source.{}",
                            pick(&source()?.principals, "principals", "notPrincipals")
                        )
                    }
                    "source.namespace" => {
                        format!(
                            "from[{from}].source.{}",
                            pick(&source()?.namespaces, "namespaces", "notNamespaces")
                        )
                    }
                    "interface" => {
                        format!(
                            "to[{to}].operation.{}",
                            pick(&operation()?.interfaces, "interfaces", "notInterfaces")
                        )
                    }
                    _ => {
                        format!("to[{to}].operation.{}", pick(&operation()?.methods, "methods", "notMethods"))
                    }
                })
            }
            Self::Own(policy) => {
                let rule = policy.spec.rules.get(rule)?;
                let source = || rule.from.get(from).map(|from| &from.source);
                Some(match attribute {
                    "source.principal" => {
                        format!(
                            "from[{from}].source.{}",
                            pick(&source()?.principals, "principals", "notPrincipals")
                        )
                    }
                    "source.namespace" => {
                        format!(
                            "from[{from}].source.{}",
                            pick(&source()?.namespaces, "namespaces", "notNamespaces")
                        )
                    }
                    "source.ip" => {
                        format!(
                            "from[{from}].source.{}",
                            pick(&source()?.ip_blocks, "ipBlocks", "notIpBlocks")
                        )
                    }
                    _ => {
                        let key = if attribute == "genericMethod" { "method" } else { attribute };
                        let at = rule.when.iter().position(|when| when.key == key)?;
                        format!("when[{at}].{}", pick(&rule.when.get(at)?.values, "values", "notValues"))
                    }
                })
            }
        }
    }
}
