/// Why bytes cannot be used, by blame. Too few bytes is never an error: it is [`Step::NeedMore`](crate::Step).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes break the protocol.
    #[error("malformed {what} at offset {offset}")]
    Malformed {
        /// The construct that could not be read.
        what: &'static str,
        /// Where it is, in bytes from the start of the input that was given.
        offset: usize,
    },
    /// The bytes may be right, but this codec does not know the construct.
    #[error("unsupported {what} at offset {offset}")]
    Unsupported {
        /// The construct that is not known.
        what: &'static str,
        /// Where it is, in bytes from the start of the input that was given.
        offset: usize,
    },
    /// A length on the wire is over the limit that the caller set.
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size on the wire, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: usize,
    },
}
