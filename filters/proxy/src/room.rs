//! How much may be on its way at once, all together: large messages that pass take the memory of what could not be sent yet.
//!
//! What one may have queued depends on what all others have: twice what is left of the room. So one alone has much of it,
//! many have little each, and however many stand still there is some left for who comes next.
//!
//! Beside what is carried, memory is needed for what peers may still send into windows that are open. Of a message that
//! passes this is no more than what is left of it, and than what its window leaves; of whom nothing is known it is what
//! Envoy has on its way, a megabyte a side at most, until SETTINGS change the windows. So windows are only as wide as what
//! is carried, and what may come of all that pass, fit into the room together:
//!
//! > carried ≤ room + 1 MiB a side + 32 KiB for each that sends into a narrow window
//!
//! Some that stand still take what they have of the room, but leave the windows of others wide: into one that is full
//! nothing more comes. Those that were many come again in a moment, or have their answers: windows become wider once there
//! were few for a while.

use core::time::Duration;

use crate::clock::Instant;
use crate::net::HIGH_WATERMARK;
use crate::worker::Worker;

/// What may wait to be read or sent, all together, before nobody may add to it but in small parts.
const ROOM: usize = 10 * 1024 * 1024;

/// What one may have queued however little room there is.
const LEAST: usize = 32 * 1024;

/// What one may have queued however much room there is.
const MOST: usize = 8 * HIGH_WATERMARK;

/// Whatever may come, windows do not become narrower while no more than this is carried: those who send are read fast.
const EASY: usize = ROOM / 3;

/// Large messages on their way with which windows become wider.
const FEW: usize = 4;

/// How long there are to be few, and room, before they do.
const QUIET: Duration = Duration::from_millis(100);

/// Windows are looked at again when so much more or less is carried, or after [`LOOK`]: that asks everyone.
const STEP: usize = ROOM / 40;

/// When windows are looked at again, though as much is carried.
const LOOK: Duration = Duration::from_millis(10);

/// What may still come of messages that pass.
struct Coming {
    /// Those of which anything may.
    messages: usize,
    bytes: usize,
}

/// How much peers may send at a time.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    width: Width,
    /// When there was no room for wider ones.
    crowded_at: Instant,
    /// When they were looked at, and what was carried.
    looked_at: Instant,
    carried: usize,
}

/// The receive windows of sockets, as far as options have them wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Width {
    Narrow,
    /// For some large messages at once.
    Middle,
    /// As the options say.
    #[default]
    Wide,
}

impl Windows {
    /// Whether it is time to see how wide they may be.
    #[inline]
    fn are_due(&self, carried: usize, now: Instant) -> bool {
        (carried > EASY || self.width != Width::Wide)
            && (carried.abs_diff(self.carried) >= STEP || now.since(self.looked_at) >= LOOK)
    }
}

impl Width {
    /// A window of this width where `wide` is the widest.
    pub(crate) fn of(self, wide: u32) -> u32 {
        match self {
            Self::Narrow => wide.min(32 * 1024),
            Self::Middle => wide.min(1024 * 1024),
            Self::Wide => wide,
        }
    }
}

impl Worker {
    /// Memory of what has come and is not passed on, and of what was written and has not left.
    pub(crate) fn carried(&mut self) -> usize {
        self.unread.saturating_add(self.relays.unread()).saturating_add(self.net.counted())
    }

    /// Whether so much queued on one socket, beside all others, is more than that may have.
    #[inline]
    pub(crate) fn is_much(&mut self, queued: usize) -> bool {
        queued > LEAST && queued > self.part()
    }

    /// What one socket may have queued.
    #[inline(never)]
    pub(crate) fn part(&mut self) -> usize {
        ROOM.saturating_sub(self.carried()).saturating_mul(2).clamp(LEAST, MOST)
    }

    /// Has peers send no more at a time than there is room for.
    #[inline]
    pub(crate) fn fit_windows(&mut self, carried: usize) {
        if self.windows.are_due(carried, self.now) {
            self.look_at_windows(carried);
        }
        self.net.set_windows(self.windows.width);
    }

    #[inline(never)]
    fn look_at_windows(&mut self, carried: usize) {
        let (present, fits) = (self.windows.width, |bytes: usize| carried.saturating_add(bytes) <= ROOM);
        self.windows.looked_at = self.now;
        self.windows.carried = carried;
        if carried > EASY && !fits(self.coming(present).bytes) {
            self.windows.crowded_at = self.now;
            let is_some = present == Width::Wide && fits(self.coming(Width::Middle).bytes);
            self.windows.width = if is_some { Width::Middle } else { Width::Narrow };
            return;
        }
        if present != Width::Wide {
            let part = self.part();
            self.relays.go_on(part, &mut self.net);
        }
        // Into wider ones Envoy sends at once what it held for them, and servers what they have next.
        let wider =
            [Width::Wide, Width::Middle].into_iter().filter(|&width| width > present).find(|&width| {
                let Coming { messages, bytes } = self.coming(width);
                messages <= FEW && fits(bytes.saturating_mul(2))
            });
        match wider {
            Some(width) if self.now.since(self.windows.crowded_at) >= QUIET => self.windows.width = width,
            Some(_) => {}
            None => self.windows.crowded_at = self.now,
        }
    }

    /// What may still come of all that pass, into windows of a width.
    #[inline(never)]
    fn coming(&self, width: Width) -> Coming {
        let [downstream, upstream] = self.net.windows(width);
        let mut coming = Coming { messages: 0, bytes: self.relays.coming([downstream, upstream]) };
        for key in &self.uploads {
            if let Some(client) = self.clients.get(*key)
                && let Some(upload) = client.upload()
            {
                coming.add(upload.left().min(downstream).saturating_sub(client.counted()));
            }
        }
        for (_, connection) in self.connections.iter() {
            if let Some(download) = connection.download() {
                // Other calls that were sent may have answers that are as large.
                let asked =
                    connection.slots().in_flight().saturating_sub(connection.upload().is_some().into());
                let window = upstream.saturating_sub(connection.intake().credit());
                coming.add(download.coming(asked).min(window));
            }
        }
        coming
    }
}

impl Coming {
    fn add(&mut self, bytes: usize) {
        if bytes > 0 {
            self.messages = self.messages.saturating_add(1);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }
}
