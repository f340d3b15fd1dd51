/// Windows, thresholds and limits. The defaults suit Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes that tcp_proxy may send on one socket before [`consumed`](crate::Sockets::consumed) lets it send more.
    /// Default 1 MiB; at most 2^31-1.
    pub receive_window_downstream: u32,
    /// The same for one socket towards the connection manager. Default 16 MiB.
    ///
    /// When an upstream closes its connection, Envoy resets the stream and drops what the window keeps it from sending.
    /// So the half of the window that may not have been granted again should hold all that an upstream has on its way.
    pub receive_window_upstream: u32,
    /// Bytes queued on a socket from which on [`Event::Writable`](crate::Event::Writable) will be due. Default 1 MiB.
    pub write_high: usize,
    /// Bytes queued below which `Writable` is reported. Default 256 KiB.
    pub write_low: usize,
    /// The stream id on either side from which on the client connections are handed over to a fresh HTTP/2 connection, as by
    /// [`drain`](crate::Sockets::drain). Default 2^30: as many are left to those that stay.
    pub handover_stream_id: u32,
    /// The largest stream id that is opened. Default 2^31-1, the protocol's own limit.
    pub last_stream_id: u32,
    /// Sockets at a time, of both sides. A stream of tcp_proxy over it is refused. Default 262 144.
    pub max_sockets: usize,
    /// SETTINGS_MAX_CONCURRENT_STREAMS towards tcp_proxy. Default 2^31-1.
    pub max_concurrent_streams: u32,
    /// SETTINGS_MAX_FRAME_SIZE towards both peers, 16 384 to 16 777 215. Default 16 384.
    pub max_frame_size: u32,
    /// Bytes of one compressed header block, over all its frames. Default 64 KiB.
    pub max_header_block: usize,
    /// Bytes of one header list, counted as in RFC 9113 section 6.5.2. Default 64 KiB.
    pub max_header_list: usize,
    /// Frames that wait to be sent in answer to one peer's frames (acknowledgements, resets), over which that peer is
    /// held to flood. Default 10 000.
    pub max_answers: usize,
    /// Bytes kept of the body that explains a refused connection. Default 1 KiB.
    pub max_reason: usize,
    /// Bytes kept of the body of a unary response. Default 64 KiB.
    pub max_response_body: usize,
    /// Memory of what closed sockets of a side have still to send, over which the one that was closed first is reset. Default
    /// 8 MiB.
    pub max_undelivered: usize,
    /// Closed sockets whose peer has yet to end: when so many more were closed after one, it is reset. Default 1024.
    pub max_lingering: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_window_downstream: 1 << 20,
            receive_window_upstream: 16 << 20,
            write_high: 1 << 20,
            write_low: 256 << 10,
            handover_stream_id: 1 << 30,
            last_stream_id: (1 << 31) - 1,
            max_sockets: 1 << 18,
            max_concurrent_streams: (1 << 31) - 1,
            max_frame_size: 16_384,
            max_header_block: 64 << 10,
            max_header_list: 64 << 10,
            max_answers: 10_000,
            max_reason: 1024,
            max_response_body: 64 << 10,
            max_undelivered: 8 << 20,
            max_lingering: 1024,
        }
    }
}
