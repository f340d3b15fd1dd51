use crate::Failure;

/// The server cannot be reached: `EHOSTDOWN` of Linux.
pub const EHOSTDOWN: u32 = 112;
/// There is no such service.
pub const ENOSERVICE: u32 = 1001;
/// There is no such method.
pub const ENOMETHOD: u32 = 1002;
/// The request cannot be read.
pub const EREQUEST: u32 = 1003;
/// The caller may not do that.
pub const ERPCAUTH: u32 = 1004;
/// No answer came in time.
pub const ERPCTIMEDOUT: u32 = 1008;
/// The connection is broken.
pub const EFAILEDSOCKET: u32 = 1009;
/// The server failed.
pub const EINTERNAL: u32 = 2001;
/// The response cannot be read.
pub const ERESPONSE: u32 = 2002;
/// The server is stopping.
pub const ELOGOFF: u32 = 2003;
/// A limit of the server is reached.
pub const ELIMIT: u32 = 2004;

/// The codes that brpc itself gives, with their names in its `errno.proto`. Any other is the service's own.
const NAMES: [(u32, &str); 21] = [
    (EHOSTDOWN, "EHOSTDOWN"),
    (ENOSERVICE, "ENOSERVICE"),
    (ENOMETHOD, "ENOMETHOD"),
    (EREQUEST, "EREQUEST"),
    (ERPCAUTH, "ERPCAUTH"),
    (1005, "ETOOMANYFAILS"),
    (1006, "EPCHANFINISH"),
    (1007, "EBACKUPREQUEST"),
    (ERPCTIMEDOUT, "ERPCTIMEDOUT"),
    (EFAILEDSOCKET, "EFAILEDSOCKET"),
    (1010, "EHTTP"),
    (1011, "EOVERCROWDED"),
    (1014, "EEOF"),
    (1015, "EUNUSED"),
    (1016, "ESSL"),
    (EINTERNAL, "EINTERNAL"),
    (ERESPONSE, "ERESPONSE"),
    (ELOGOFF, "ELOGOFF"),
    (ELIMIT, "ELIMIT"),
    (2005, "ECLOSE"),
    (2006, "EITP"),
];

/// The name of a code that brpc itself gives.
pub fn name(code: u32) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

pub(super) fn code(name: &str) -> Option<u32> {
    NAMES.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
}

/// The code that answers a request which the proxy cannot serve. brpc's clients report it with the reply's text.
pub(super) fn of(failure: Failure) -> u32 {
    match failure {
        Failure::BadRequest => EREQUEST,
        Failure::NoRoute => ENOSERVICE,
        Failure::NoEndpoint => EHOSTDOWN,
        Failure::ConnectionLost => EFAILEDSOCKET,
        Failure::BadResponse => ERESPONSE,
        Failure::Timeout => ERPCTIMEDOUT,
        Failure::Overloaded | Failure::RateLimited => ELIMIT,
        Failure::Denied => ERPCAUTH,
        Failure::Fault => EINTERNAL,
    }
}
