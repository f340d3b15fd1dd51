//! How a call ended, in the words of Istio's metrics for gRPC: the nearest that tools know.

use meltemi_codecs::{Failure, Outcome};

use crate::calls::{End, Record};

/// What is told of each end: in our own words, as a status of gRPC and as Envoy's response flags.
const TOLD: [(&str, u32, &str); 16] = [
    ("success", 0, "-"),
    ("exception", 0, "-"),
    ("error", INTERNAL, "-"),
    ("sent", 0, "-"),
    ("cancelled", CANCELLED, "DC"),
    ("bad_request", INTERNAL, "DPE"),
    ("no_route", 12, "NR"),
    ("no_endpoint", UNAVAILABLE, "UH"),
    ("connection_lost", UNAVAILABLE, "UC"),
    ("bad_response", INTERNAL, "UPE"),
    ("timeout", 4, "UT"),
    ("overloaded", 8, "UO"),
    ("denied", 7, "UAEX"),
    ("fault", UNAVAILABLE, "FI"),
    ("rate_limited", 8, "RL"),
    ("other", INTERNAL, "-"),
];

const CANCELLED: u32 = 1;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// Added to the number of an end: it was held back by a fault.
const DELAYED: u32 = 1 << 8;

/// Where the status of a service's own exception is.
const STATUS: u32 = 16;

/// Envoy's response flags of what ended so, in our own words; empty if it has none.
#[inline(never)]
pub fn flags(outcome: &str) -> &'static str {
    let row = TOLD.iter().find(|(known, ..)| *known == outcome);
    row.map(|(.., flags)| *flags).filter(|flags| *flags != "-").unwrap_or_default()
}

/// The number of how a call ended; a service's own exception has that status.
pub(crate) fn of(record: &Record, exception_status: u32) -> u32 {
    let row = match record.end {
        Some(End::Answered(Outcome::Success)) => 0,
        Some(End::Answered(Outcome::Exception)) => 1 | exception_status << STATUS,
        Some(End::Answered(Outcome::Error(_))) => 2,
        Some(End::Sent) => 3,
        Some(End::Cancelled) | None => 4,
        Some(End::Failed(failure)) => match failure {
            Failure::BadRequest => 5,
            Failure::NoRoute => 6,
            Failure::NoEndpoint => 7,
            Failure::ConnectionLost => 8,
            Failure::BadResponse => 9,
            Failure::Timeout => 10,
            Failure::Overloaded => 11,
            Failure::Denied => 12,
            Failure::Fault => 13,
            Failure::RateLimited => 14,
            _ => 15,
        },
    };
    row | if record.is_delayed { DELAYED } else { 0 }
}

/// What is told of how a call ended.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// In our own words.
    pub(crate) outcome: &'static str,
    /// The code of the answer.
    pub(crate) code: &'static str,
    /// The status of gRPC.
    pub(crate) status: u32,
    /// Envoy's response flags.
    pub(crate) flags: String,
}

/// What is told of an end by its number.
#[inline(never)]
pub(crate) fn told(verdict: u32) -> Verdict {
    let row = TOLD.get((verdict & 0xff) as usize).copied();
    let (outcome, status, flags) = row.unwrap_or(("other", INTERNAL, "-"));
    let flags = match verdict & DELAYED {
        0 => flags.to_owned(),
        _ if flags == "-" => "DI".to_owned(),
        _ => ["DI,", flags].concat(),
    };
    // Of a call that nobody waited for there is no response.
    let code = if status == CANCELLED { "0" } else { "200" };
    Verdict { outcome, code, status: status | verdict >> STATUS, flags }
}

/// The fields that tell it.
pub(super) fn fields(verdict: u32) -> Vec<(&'static str, String)> {
    let Verdict { outcome, code, status, flags } = told(verdict);
    FIELDS.into_iter().zip([code.to_owned(), status.to_string(), flags, outcome.to_owned()]).collect()
}

/// What they are called.
pub(super) const FIELDS: [&str; 4] =
    ["x-response-code", "x-grpc-response-status", "x-response-flags", "x-rpc-outcome"];
