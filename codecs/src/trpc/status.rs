use crate::Failure;

/// The codes of tRPC's frameworks, with their names in `trpc.proto` less `TRPC_`, and `_ERR` where that ends it.
const NAMES: [(u32, &str); 44] = [
    (1, "SERVER_DECODE"),
    (2, "SERVER_ENCODE"),
    (11, "SERVER_NOSERVICE"),
    (12, "SERVER_NOFUNC"),
    (21, "SERVER_TIMEOUT"),
    (22, "SERVER_OVERLOAD"),
    (23, "SERVER_LIMITED"),
    (24, "SERVER_FULL_LINK_TIMEOUT"),
    (31, "SERVER_SYSTEM"),
    (41, "SERVER_AUTH"),
    (51, "SERVER_VALIDATE"),
    (101, "CLIENT_INVOKE_TIMEOUT"),
    (102, "CLIENT_FULL_LINK_TIMEOUT"),
    (111, "CLIENT_CONNECT"),
    (121, "CLIENT_ENCODE"),
    (122, "CLIENT_DECODE"),
    (123, "CLIENT_LIMITED"),
    (124, "CLIENT_OVERLOAD"),
    (131, "CLIENT_ROUTER"),
    (141, "CLIENT_NETWORK"),
    (151, "CLIENT_VALIDATE"),
    (161, "CLIENT_CANCELED"),
    (171, "CLIENT_READ_FRAME"),
    (201, "STREAM_SERVER_NETWORK"),
    (211, "STREAM_SERVER_MSG_EXCEED_LIMIT"),
    (221, "STREAM_SERVER_ENCODE"),
    (222, "STREAM_SERVER_DECODE"),
    (231, "STREAM_SERVER_WRITE_END"),
    (232, "STREAM_SERVER_WRITE_OVERFLOW"),
    (233, "STREAM_SERVER_WRITE_CLOSE"),
    (234, "STREAM_SERVER_WRITE_TIMEOUT"),
    (251, "STREAM_SERVER_READ_END"),
    (252, "STREAM_SERVER_READ_CLOSE"),
    (253, "STREAM_SERVER_READ_EMPTY"),
    (254, "STREAM_SERVER_READ_TIMEOUT"),
    (301, "STREAM_CLIENT_NETWORK"),
    (311, "STREAM_CLIENT_MSG_EXCEED_LIMIT"),
    (321, "STREAM_CLIENT_ENCODE"),
    (322, "STREAM_CLIENT_DECODE"),
    (331, "STREAM_CLIENT_WRITE_END"),
    (333, "STREAM_CLIENT_WRITE_CLOSE"),
    (351, "STREAM_CLIENT_READ_END"),
    (999, "INVOKE_UNKNOWN"),
    (1000, "STREAM_UNKNOWN"),
];

/// The name of a code.
pub fn name(code: u32) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// The code of a name, with or without what [`name`] leaves out.
pub(super) fn code(name: &str) -> Option<u32> {
    let name = name.strip_prefix("TRPC_").unwrap_or(name);
    let name = name.strip_suffix("_ERR").unwrap_or(name);
    NAMES.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
}

/// The code that answers a request which the proxy cannot serve: a server's where it is for what the client asked, a
/// client's where it is for what became of it on the way.
pub(super) fn of(failure: Failure) -> u32 {
    match failure {
        Failure::BadRequest => 1,
        Failure::NoRoute => 11,
        Failure::NoEndpoint => 111,
        Failure::ConnectionLost => 141,
        Failure::BadResponse => 122,
        Failure::Timeout => 101,
        Failure::Overloaded => 22,
        Failure::RateLimited => 23,
        Failure::Denied => 41,
        Failure::Fault => 31,
    }
}
