/// How far the graceful end of the connection to tcp_proxy has come, RFC 9113 section 6.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// New streams are welcome.
    Not,
    /// A GOAWAY is to be sent that names the largest id: streams on their way are still served.
    Due,
    /// It was, and is to be followed by a PING.
    Announced,
    /// The PING is out; with its acknowledgement tcp_proxy knows of the GOAWAY.
    Probing,
    /// A second GOAWAY named the last stream that is served.
    Done { last_stream: u32 },
}
