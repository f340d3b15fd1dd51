use crate::Failure;

/// A response whose status says that the call succeeded, or that the service answered with an exception.
pub const OK: u8 = 20;
/// The arguments or the result could not be serialized.
pub const SERIALIZATION_ERROR: u8 = 25;
/// The client gave up waiting.
pub const CLIENT_TIMEOUT: u8 = 30;
/// The server did not answer in time.
pub const SERVER_TIMEOUT: u8 = 31;
/// The connection is gone.
pub const CHANNEL_INACTIVE: u8 = 35;
/// The request cannot be read.
pub const BAD_REQUEST: u8 = 40;
/// The response cannot be read.
pub const BAD_RESPONSE: u8 = 50;
/// There is no such service.
pub const SERVICE_NOT_FOUND: u8 = 60;
/// The service failed outside its own code.
pub const SERVICE_ERROR: u8 = 70;
/// The server failed.
pub const SERVER_ERROR: u8 = 80;
/// The client failed.
pub const CLIENT_ERROR: u8 = 90;
/// The server has no thread left for the call.
pub const SERVER_THREADPOOL_EXHAUSTED_ERROR: u8 = 100;

/// Every status with its name in `org.apache.dubbo.remoting.exchange.Response`.
const NAMES: [(u8, &str); 12] = [
    (OK, "OK"),
    (SERIALIZATION_ERROR, "SERIALIZATION_ERROR"),
    (CLIENT_TIMEOUT, "CLIENT_TIMEOUT"),
    (SERVER_TIMEOUT, "SERVER_TIMEOUT"),
    (CHANNEL_INACTIVE, "CHANNEL_INACTIVE"),
    (BAD_REQUEST, "BAD_REQUEST"),
    (BAD_RESPONSE, "BAD_RESPONSE"),
    (SERVICE_NOT_FOUND, "SERVICE_NOT_FOUND"),
    (SERVICE_ERROR, "SERVICE_ERROR"),
    (SERVER_ERROR, "SERVER_ERROR"),
    (CLIENT_ERROR, "CLIENT_ERROR"),
    (SERVER_THREADPOOL_EXHAUSTED_ERROR, "SERVER_THREADPOOL_EXHAUSTED_ERROR"),
];

/// The name of a status.
pub fn name(status: u32) -> Option<&'static str> {
    NAMES.iter().find(|(code, _)| u32::from(*code) == status).map(|(_, name)| *name)
}

pub(super) fn code(name: &str) -> Option<u32> {
    NAMES.iter().find(|(_, known)| *known == name).map(|(code, _)| u32::from(*code))
}

/// The status that answers a request which the proxy cannot serve. Dubbo's clients make a `TimeoutException` of
/// [`SERVER_TIMEOUT`] and a `RemotingException` of the others, each with the reply's text.
pub(super) fn of(failure: Failure) -> u8 {
    match failure {
        Failure::BadRequest => BAD_REQUEST,
        Failure::NoRoute => SERVICE_NOT_FOUND,
        Failure::NoEndpoint | Failure::ConnectionLost => SERVER_ERROR,
        Failure::BadResponse => BAD_RESPONSE,
        Failure::Timeout => SERVER_TIMEOUT,
        Failure::Overloaded | Failure::RateLimited => SERVER_THREADPOOL_EXHAUSTED_ERROR,
        Failure::Denied | Failure::Fault => SERVICE_ERROR,
    }
}
