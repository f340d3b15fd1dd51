//! Frames waiting to be written to one connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use super::frame::{Template, Token};

/// Frames per write: with a head and a tail each, well under the kernel's limit of 1024 slices.
const BATCH: usize = 128;

/// Frames waiting to be written. Of a long one only its front is kept: it is put together as it is written.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Queued>,
    /// The fronts of the frames, one behind the other.
    heads: Vec<u8>,
    /// Bytes of the first frame that are written already.
    written: usize,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    template: usize,
    head_len: usize,
}

impl Outbox {
    /// Queues the frame of that index in the templates, which are those that [`Outbox::flush`] is given.
    pub fn push(&mut self, templates: &[Template], template: usize, id: u64, token: &Token) {
        let before = self.heads.len();
        templates[template].write_head(id, token, &mut self.heads);
        self.queue.push_back(Queued { template, head_len: self.heads.len() - before });
    }

    /// Forgets what is queued.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.heads.clear();
        self.written = 0;
    }

    /// Writes as much as `to` takes, many frames at a time.
    ///
    /// # Errors
    ///
    /// Those of `to`, but for "would block", which ends the writing for now.
    pub fn flush(&mut self, templates: &[Template], to: &mut impl Write) -> io::Result<()> {
        while !self.queue.is_empty() {
            let mut slices = Vec::with_capacity(2 * BATCH);
            let (mut rest, mut skip) = (self.heads.as_slice(), self.written);
            for frame in self.queue.iter().take(BATCH) {
                let template = &templates[frame.template];
                let (head, more) = rest.split_at(frame.head_len);
                rest = more;
                for part in [head, template.tail()] {
                    let skipped = skip.min(part.len());
                    skip -= skipped;
                    if skipped < part.len() {
                        slices.push(IoSlice::new(&part[skipped..]));
                    }
                }
            }
            match to.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.advance(n, templates),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, n: usize, templates: &[Template]) {
        self.written += n;
        let mut done = 0;
        while let Some(frame) = self.queue.front() {
            let len = frame.head_len + templates[frame.template].tail().len();
            if self.written < len {
                break;
            }
            self.written -= len;
            done += frame.head_len;
            self.queue.pop_front();
        }
        self.heads.drain(..done);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::super::frame::token;
    use super::*;

    /// Takes a few bytes at a time, and refuses every other write.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
        open: bool,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open = !self.open;
            if !self.open {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(self.width);
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn partial_writes_go_on_where_they_stopped() {
        let templates = [64, 2000].map(|body| Template::request(Protocol::Dubbo, body));
        let mut whole = Vec::new();
        let mut outbox = Outbox::default();
        for id in 0..300 {
            let template = id as usize % 2;
            outbox.push(&templates, template, id, &token(id));
            templates[template].write_head(id, &token(id), &mut whole);
            whole.extend_from_slice(templates[template].tail());
        }
        let mut narrow = Narrow { taken: Vec::new(), width: 97, open: false };
        while !outbox.queue.is_empty() {
            outbox.flush(&templates, &mut narrow).unwrap();
        }
        assert!(narrow.taken == whole);
    }
}
