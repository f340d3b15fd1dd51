use crate::Side;
use crate::buffer::SendBuffer;

/// One stream as a socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) side: Side,
    /// The stream's id; 0 until it is opened, which a peer's SETTINGS_MAX_CONCURRENT_STREAMS can put off.
    pub(crate) stream: u32,
    pub(crate) kind: Kind,
    /// The caller has given the id up: what still comes is swallowed, what is queued is still sent.
    pub(crate) released: bool,
    /// The final head of the answer has come (upstream only).
    pub(crate) answered: bool,
    /// DATA may be sent: the tunnel is accepted, or connected.
    pub(crate) open: bool,
    pub(crate) local: LocalEnd,
    /// The peer sent END_STREAM.
    pub(crate) remote_ended: bool,
    pub(crate) send: SendBuffer,
    /// Bytes sent so far.
    pub(crate) sent: u64,
    /// Bytes that the peer lets us send, RFC 9113 section 6.9. Its SETTINGS can make it negative.
    pub(crate) send_window: i64,
    /// Bytes that the peer may still send.
    pub(crate) receive_window: i64,
    /// Bytes delivered and not yet consumed.
    pub(crate) unconsumed: usize,
    /// Window to be granted back with the next WINDOW_UPDATE.
    pub(crate) credit: u32,
    /// Bytes swallowed since the release.
    pub(crate) swallowed: u32,
    /// `Writable` is due when fewer bytes than these are queued: there were
    /// [`Options::write_high`](crate::Options::write_high), or the caller waits.
    pub(crate) mark: Option<usize>,
    /// Its place in the send queues, so that it is in them once.
    pub(crate) in_ready: bool,
    pub(crate) in_ends: bool,
}

/// How far our direction of the stream has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalEnd {
    Open,
    /// END_STREAM follows what is queued.
    Due,
    Sent,
}

/// What the stream is for, with what has been gathered of the answer.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A client connection.
    Accepted,
    /// A connection to an upstream that is being opened.
    Connecting,
    /// One that was refused; the reason is being read.
    Refusing(Box<Refusal>),
    /// An open connection to an upstream.
    Connected,
    Alarm,
    Unary(Box<Answer>),
    /// The stream is lost; the event that says so waits.
    Gone,
}

#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) endpoint: Option<String>,
    pub(crate) reason: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Socket {
    pub(crate) fn new(side: Side, stream: u32, kind: Kind) -> Self {
        Self {
            side,
            stream,
            kind,
            released: false,
            answered: false,
            open: false,
            local: LocalEnd::Open,
            remote_ended: false,
            send: SendBuffer::default(),
            sent: 0,
            send_window: 0,
            receive_window: 0,
            unconsumed: 0,
            credit: 0,
            swallowed: 0,
            mark: None,
            in_ready: false,
            in_ends: false,
        }
    }

    /// DATA must not come yet.
    pub(crate) fn awaits_head(&self) -> bool {
        self.side == Side::Upstream && !self.answered
    }

    /// Nothing more will be sent either way.
    pub(crate) fn is_over(&self) -> bool {
        self.remote_ended && self.local == LocalEnd::Sent
    }

    /// DATA may be sent now, behind what is queued, as far as the windows go.
    pub(crate) fn may_pass(&self) -> bool {
        self.open && self.local == LocalEnd::Open && self.mark.is_none()
    }

    /// END_STREAM can be sent by itself.
    pub(crate) fn end_is_ready(&self) -> bool {
        self.open && self.local == LocalEnd::Due && self.send.is_empty()
    }

    /// Bytes that can be sent as far as this stream is concerned.
    pub(crate) fn sendable(&self) -> usize {
        if !self.open || self.local == LocalEnd::Sent {
            return 0;
        }
        self.send.len().min(usize::try_from(self.send_window).unwrap_or(0))
    }
}
