use crate::Side;

/// Error codes of HTTP/2, RFC 9113 section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub enum Code {
    NoError = 0x0,
    ProtocolError = 0x1,
    InternalError = 0x2,
    FlowControlError = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    CompressionError = 0x9,
    ConnectError = 0xa,
    EnhanceYourCalm = 0xb,
    InadequateSecurity = 0xc,
    Http11Required = 0xd,
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// The peer broke HTTP/2 so that the whole connection to it is lost.
///
/// A GOAWAY with [`code`](Self::code) is queued for the peer; the owner of the connection closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connection error {code:?} on the {side:?} side: {what}")]
#[non_exhaustive]
pub struct Error {
    /// The side whose peer is at fault.
    pub side: Side,
    /// What the GOAWAY says.
    pub code: Code,
    /// The rule that was broken, for logs.
    pub what: &'static str,
}
