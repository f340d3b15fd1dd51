//! Sockets between two peers of the `h2` crate, all polled by hand: no runtime, no clock, no threads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use meltemi_sockets::{Event, Options, Side, Sockets};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the filter does with an event.
pub type App = Box<dyn FnMut(&mut Sockets, Event<'_>)>;

/// The peers, the sockets between them, and everything that crossed.
pub struct World {
    pub sockets: Rc<RefCell<Sockets>>,
    pub downstream: Wire,
    pub upstream: Wire,
    /// What each callback was given.
    pub transcript: Vec<(Side, Vec<u8>)>,
    /// What each callback sent.
    pub sent: Vec<(Side, Vec<u8>)>,
    app: App,
    tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>,
}

/// One connection between the filter and a peer.
#[derive(Clone, Default)]
pub struct Wire(Rc<RefCell<Ends>>);

#[derive(Default)]
struct Ends {
    to_filter: Vec<u8>,
    to_peer: VecDeque<u8>,
    closed: bool,
}

/// Bytes of one callback.
const READ: usize = 64 << 10;

impl World {
    pub fn new(options: Options, app: App) -> Self {
        Self {
            sockets: Rc::new(RefCell::new(Sockets::new(options))),
            downstream: Wire::default(),
            upstream: Wire::default(),
            transcript: Vec::new(),
            sent: Vec::new(),
            app,
            tasks: Vec::new(),
        }
    }

    pub fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(Box::pin(task));
    }

    /// Goes on until nothing moves any more.
    pub fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 4 {
            quiet += 1;
            let mut context = Context::from_waker(Waker::noop());
            let before = self.tasks.len();
            self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            if self.tasks.len() != before {
                quiet = 0;
            }
            for side in [Side::Downstream, Side::Upstream] {
                if self.callback(side) {
                    quiet = 0;
                }
            }
        }
    }

    /// Gives what one peer sent to the sockets and sends the other what they have for it, as Envoy lets a filter do.
    fn callback(&mut self, side: Side) -> bool {
        let input = self.wire(side).take();
        if input.is_empty() {
            return false;
        }
        let mut rest = &input[..];
        let mut sockets = self.sockets.borrow_mut();
        while let Some(event) = sockets.receive(side, &mut rest).expect("peers of h2 keep to the protocol") {
            (self.app)(&mut sockets, event);
        }
        assert!(rest.is_empty());
        let mut out = Vec::new();
        sockets.transmit(side.other(), &mut out);
        self.wire(side.other()).0.borrow_mut().to_peer.extend(&out);
        drop(sockets);
        self.transcript.push((side, input));
        self.sent.push((side.other(), out));
        true
    }

    fn wire(&self, side: Side) -> &Wire {
        match side {
            Side::Downstream => &self.downstream,
            Side::Upstream => &self.upstream,
        }
    }

    /// Frames of one kind that were sent to a side.
    pub fn frames_sent(&self, side: Side, kind: u8) -> usize {
        let bytes: Vec<u8> =
            self.sent.iter().filter(|(to, _)| *to == side).flat_map(|(_, out)| out.clone()).collect();
        let mut rest = match side {
            Side::Downstream => &bytes[..],
            Side::Upstream => &bytes[24..],
        };
        let mut count = 0;
        while let [a, b, c, found, ..] = *rest {
            count += usize::from(found == kind);
            rest = &rest[9 + u32::from_be_bytes([0, a, b, c]) as usize..];
        }
        count
    }
}

impl Wire {
    fn take(&self) -> Vec<u8> {
        let mut ends = self.0.borrow_mut();
        let count = ends.to_filter.len().min(READ);
        ends.to_filter.drain(..count).collect()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        if ends.to_peer.is_empty() {
            return if ends.closed { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let count = buffer.remaining().min(ends.to_peer.len());
        let bytes: Vec<u8> = ends.to_peer.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.borrow_mut().to_filter.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.borrow_mut().closed = true;
        Poll::Ready(Ok(()))
    }
}
