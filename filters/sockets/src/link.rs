use std::collections::VecDeque;

use crate::frame::{DEFAULT_WINDOW, MAX_31, MAX_FRAME_SIZE, MIN_FRAME_SIZE, PREFACE, setting};
use crate::hpack::{Decoder, Encoder, Fields};
use crate::reader::{Fault, Reader};
use crate::streams::Streams;
use crate::{Code, Error, Options, Side, SocketId, frame};

/// The state of one HTTP/2 connection, without its sockets.
pub(crate) struct Link {
    pub(crate) reader: Reader,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
    /// The header list decoded last, kept for its memory.
    pub(crate) fields: Fields,
    /// A header block that goes on in CONTINUATION.
    pub(crate) block: Block,
    /// Encoded header blocks, kept for its memory.
    pub(crate) scratch: Vec<u8>,
    /// Frames other than DATA that wait to be sent.
    pub(crate) control: Vec<u8>,
    pub(crate) streams: Streams,
    /// Sockets that may have DATA to send, each in its turn.
    pub(crate) ready: VecDeque<u32>,
    /// Sockets of which only END_STREAM is left to be sent.
    pub(crate) ends: VecDeque<u32>,
    /// Sockets that were closed but whose peer has not ended, oldest first: index and stream.
    pub(crate) lingering: VecDeque<(u32, u32)>,
    /// Sockets that were closed with something left to send, oldest first: index and stream. Some may have sent it.
    pub(crate) undelivered: VecDeque<(u32, u32)>,
    /// How many of those were reset since that was asked.
    pub(crate) dropped: usize,
    /// Streams to be opened once the peer allows more at a time.
    pub(crate) waiting: VecDeque<Opening>,
    /// Whose DATA frame is being read: index and stream.
    pub(crate) target: Option<(u32, u32)>,
    pub(crate) peer: PeerSettings,
    /// Bytes that the peer lets us send over all streams.
    pub(crate) send_window: i64,
    /// Bytes that the peer may still send over all streams, and those not yet granted again.
    receive_window: u32,
    receive_credit: u32,
    /// What every stream's receive window loses when the peer acknowledges our SETTINGS, of each that it has not: until
    /// then it may use the window that it knows, at first that of the specification.
    unacknowledged: VecDeque<u32>,
    /// The receive window of a stream, as announced.
    pub(crate) stream_window: u32,
    /// The highest stream id that the peer opened.
    pub(crate) last_peer_stream: u32,
    /// The next stream id to open.
    pub(crate) next_stream: u32,
    /// The PING that is out, by its payload.
    pub(crate) ping: Option<[u8; 8]>,
    pings_sent: u32,
    /// The peer sent GOAWAY.
    pub(crate) going_away: bool,
    /// The last stream of ours that the peer will serve.
    pub(crate) last_served: u32,
    pub(crate) failure: Option<Error>,
    /// Frames in `control` that frames of the peer made necessary.
    pub(crate) answers: usize,
    max_answers: usize,
}

/// What the peer's SETTINGS allow.
#[derive(Debug)]
pub(crate) struct PeerSettings {
    pub(crate) initial_window: u32,
    pub(crate) max_frame_size: usize,
    pub(crate) max_concurrent_streams: u32,
}

/// A header block in the making.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: u32,
    pub(crate) end_stream: bool,
}

/// A stream that waits to be opened.
pub(crate) struct Opening {
    pub(crate) id: SocketId,
    pub(crate) fields: Fields,
    pub(crate) end_stream: bool,
}

/// Connections are never short of receive window: memory is bounded by the windows of the sockets.
const CONNECTION_WINDOW: u32 = MAX_31;

impl Link {
    pub(crate) fn new(side: Side, options: &Options) -> Self {
        let max_frame_size = options.max_frame_size.clamp(MIN_FRAME_SIZE, MAX_FRAME_SIZE);
        let stream_window = match side {
            Side::Downstream => options.receive_window_downstream,
            Side::Upstream => options.receive_window_upstream,
        }
        .clamp(1, MAX_31);
        let mut control = Vec::new();
        let mut settings = vec![
            (setting::INITIAL_WINDOW_SIZE, stream_window),
            (setting::MAX_HEADER_LIST_SIZE, u32::try_from(options.max_header_list).unwrap_or(u32::MAX)),
        ];
        match side {
            Side::Downstream => {
                settings.push((setting::MAX_CONCURRENT_STREAMS, options.max_concurrent_streams));
            }
            Side::Upstream => {
                control.extend_from_slice(PREFACE);
                settings.push((setting::ENABLE_PUSH, 0));
            }
        }
        if max_frame_size != MIN_FRAME_SIZE {
            settings.push((setting::MAX_FRAME_SIZE, max_frame_size));
        }
        frame::put_settings(&mut control, &settings);
        frame::put_window_update(&mut control, 0, CONNECTION_WINDOW.saturating_sub(DEFAULT_WINDOW));
        Self {
            reader: Reader::new(side, max_frame_size),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            fields: Fields::default(),
            block: Block::default(),
            scratch: Vec::new(),
            control,
            streams: Streams::default(),
            ready: VecDeque::new(),
            ends: VecDeque::new(),
            lingering: VecDeque::new(),
            undelivered: VecDeque::new(),
            dropped: 0,
            waiting: VecDeque::new(),
            target: None,
            peer: PeerSettings {
                initial_window: DEFAULT_WINDOW,
                max_frame_size: 16_384,
                max_concurrent_streams: u32::MAX,
            },
            send_window: i64::from(DEFAULT_WINDOW),
            receive_window: CONNECTION_WINDOW,
            receive_credit: 0,
            unacknowledged: VecDeque::from([DEFAULT_WINDOW.saturating_sub(stream_window)]),
            stream_window,
            last_peer_stream: 0,
            next_stream: 1,
            ping: None,
            pings_sent: 0,
            going_away: false,
            last_served: MAX_31,
            failure: None,
            answers: 0,
            max_answers: options.max_answers,
        }
    }

    /// The receive window of a stream that begins now.
    pub(crate) fn new_receive_window(&self) -> i64 {
        self.unacknowledged
            .iter()
            .fold(i64::from(self.stream_window), |window, excess| window.saturating_add(i64::from(*excess)))
    }

    /// Announces another receive window for all streams: what they gain by it at once. `None` if it is the same, or if the
    /// peer has yet to acknowledge what was announced before.
    pub(crate) fn announce_window(&mut self, window: u32) -> Option<u32> {
        if window == self.stream_window || !self.unacknowledged.is_empty() || self.failure.is_some() {
            return None;
        }
        let before = std::mem::replace(&mut self.stream_window, window);
        frame::put_settings(&mut self.control, &[(setting::INITIAL_WINDOW_SIZE, window)]);
        self.unacknowledged.push_back(before.saturating_sub(window));
        Some(window.saturating_sub(before))
    }

    /// The peer acknowledged our SETTINGS. Returns what every stream's receive window loses by it.
    pub(crate) fn settings_acknowledged(&mut self) -> Result<u32, Fault> {
        let unsent = Fault(Code::ProtocolError, "an acknowledgement of SETTINGS that were not sent");
        self.unacknowledged.pop_front().ok_or(unsent)
    }

    /// Counts a DATA frame against the connection's window and grants it again.
    pub(crate) fn arrived(&mut self, length: u32) -> Result<(), Fault> {
        self.receive_window = self
            .receive_window
            .checked_sub(length)
            .ok_or(Fault(Code::FlowControlError, "the connection window is overrun"))?;
        self.receive_credit = self.receive_credit.saturating_add(length);
        if self.receive_credit >= CONNECTION_WINDOW >> 1 {
            let credit = std::mem::take(&mut self.receive_credit);
            frame::put_window_update(&mut self.control, 0, credit);
            self.receive_window = self.receive_window.saturating_add(credit);
        }
        Ok(())
    }

    /// Whether DATA of so many bytes may come, and begins with what comes next.
    pub(crate) fn may_arrive(&self, length: u32) -> bool {
        self.failure.is_none() && self.reader.may_begin(length) && length <= self.receive_window
    }

    /// Where to put a frame that a frame of the peer's makes necessary. To be followed by
    /// [`check_flood`](Self::check_flood).
    pub(crate) fn answer(&mut self) -> &mut Vec<u8> {
        self.answers = self.answers.saturating_add(1);
        &mut self.control
    }

    pub(crate) fn check_flood(&self) -> Result<(), Fault> {
        if self.answers > self.max_answers {
            return Err(Fault(Code::EnhanceYourCalm, "more answers are queued than are read"));
        }
        Ok(())
    }

    /// Appends a PING to `out`. At most one is out at a time.
    pub(crate) fn ping(&mut self, out: &mut Vec<u8>) {
        self.pings_sent = self.pings_sent.wrapping_add(1);
        let [a, b, c, d] = self.pings_sent.to_be_bytes();
        let opaque = [b'm', b'l', b't', b'm', a, b, c, d];
        frame::put_ping(out, 0, opaque);
        self.ping = Some(opaque);
    }

    /// Ends the connection by an error: a GOAWAY is queued, and no DATA leaves any more.
    pub(crate) fn fail(&mut self, side: Side, Fault(code, what): Fault) -> Error {
        let error = Error { side, code, what };
        frame::put_goaway(&mut self.control, self.last_peer_stream, code);
        self.failure = Some(error);
        error
    }
}
