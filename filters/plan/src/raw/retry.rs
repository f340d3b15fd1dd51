use serde::Deserialize;

use super::object::object;
use crate::Span;

/// The most retries of a call.
pub const MOST_ATTEMPTS: u32 = 10;

/// When and how a failed call is retried. One-way calls never are.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Retry {
    /// How often a call may be retried after its first try.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MOST_ATTEMPTS)))]
    #[cfg_attr(feature = "schema", serde(default = "one"))]
    pub attempts: u32,
    /// The failures that are retried.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default = "connect_failure"))]
    pub on: Vec<Trigger>,
    /// The response statuses that are retried, by name or number of the protocol. They need `status` in `on`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub statuses: Vec<Status>,
    /// How long one try may take; `0s` sets no limit.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub per_try_timeout: Span,
    /// How long to wait before each retry.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub backoff: Backoff,
    /// When a second try is made while the first has no answer yet. It is one of the `attempts`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"))]
    pub hedge: Option<Hedge>,
}

object! {
    Retry from Self::default();
    optional attempts, on, statuses, per_try_timeout as "perTryTimeout", backoff, hedge;
}

fn one() -> u32 {
    1
}

fn connect_failure() -> Vec<Trigger> {
    vec![Trigger::ConnectFailure]
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: one(),
            on: connect_failure(),
            statuses: Vec::new(),
            per_try_timeout: Span::default(),
            backoff: Backoff::default(),
            hedge: None,
        }
    }
}

/// A failure after which a call can be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// No connection to an endpoint could be had: the call was not sent.
    ConnectFailure,
    /// The connection was lost after the call was sent and before its answer came.
    Reset,
    /// No answer came within `perTryTimeout`.
    PerTryTimeout,
    /// The answer has one of the listed `statuses`.
    Status,
}

/// A response status of the protocol, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(untagged))]
pub enum Status {
    /// The protocol's own name, such as `SERVER_TIMEOUT`.
    Name(String),
    /// The number on the wire.
    Number(u32),
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Status;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("the name or the number of a status")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Status, E> {
                Ok(Status::Name(name.to_owned()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Status, E> {
                let unexpected = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                u32::try_from(number).map(Status::Number).map_err(unexpected)
            }
        }

        from.deserialize_any(Visitor)
    }
}

/// The wait before a retry, a random part of a time that doubles with each.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Backoff {
    /// The longest wait before the first retry; `0s` retries at once.
    #[cfg_attr(feature = "schema", serde(default = "base_backoff"))]
    pub base: Span,
    /// The longest wait before any retry. Default: ten times `base`.
    #[cfg_attr(feature = "schema", serde(default))]
    pub max: Option<Span>,
}

object! {
    Backoff from Self::default();
    optional base, max;
}

fn base_backoff() -> Span {
    Span::from_millis(25)
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: base_backoff(), max: None }
    }
}

/// When a call gets a second try beside one that has no answer yet; the first answer is the call's. With both fields, after
/// the later of the two.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
#[cfg_attr(feature = "schema", schemars(extend("minProperties" = 1)))]
pub struct Hedge {
    /// How long after the first try.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"))]
    pub after: Option<Span>,
    /// After the time in which so many percent of the route's calls were answered; not used before a hundred were.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 99)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"))]
    pub percentile: Option<u32>,
}

object! {
    Hedge from Self::default();
    optional after, percentile;
}
