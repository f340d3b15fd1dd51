use crate::Failure;

/// The types of `TApplicationException`, each at its number.
const NAMES: [&str; 11] = [
    "UNKNOWN",
    "UNKNOWN_METHOD",
    "INVALID_MESSAGE_TYPE",
    "WRONG_METHOD_NAME",
    "BAD_SEQUENCE_ID",
    "MISSING_RESULT",
    "INTERNAL_ERROR",
    "PROTOCOL_ERROR",
    "INVALID_TRANSFORM",
    "INVALID_PROTOCOL",
    "UNSUPPORTED_CLIENT_TYPE",
];

/// An exception that names no type.
pub const UNKNOWN: u32 = 0;
/// There is no such method.
pub const UNKNOWN_METHOD: u32 = 1;
/// The server failed.
pub const INTERNAL_ERROR: u32 = 6;
/// A message cannot be read.
pub const PROTOCOL_ERROR: u32 = 7;

/// The name of a type.
pub(super) fn name(status: u32) -> Option<&'static str> {
    NAMES.get(usize::try_from(status).ok()?).copied()
}

pub(super) fn code(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok())
}

/// The type that answers a request which the proxy cannot serve. Thrift has none for overload, time-outs or
/// authorization: the text tells them apart.
pub(super) fn of(failure: Failure) -> u32 {
    match failure {
        Failure::NoRoute => UNKNOWN_METHOD,
        Failure::BadRequest | Failure::BadResponse => PROTOCOL_ERROR,
        Failure::NoEndpoint
        | Failure::ConnectionLost
        | Failure::Timeout
        | Failure::Overloaded
        | Failure::RateLimited
        | Failure::Denied
        | Failure::Fault => INTERNAL_ERROR,
    }
}
