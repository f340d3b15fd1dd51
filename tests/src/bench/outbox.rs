//! Frames waiting to be written to one connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use super::frame::{Template, Token};

/// Frames per write: with a head and a tail each, well under the kernel's limit of 1024 slices.
const BATCH: usize = 128;

/// Frames waiting to be written. A queued frame takes a few bytes whatever its length: it is put together as it is written.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Queued>,
    /// Bytes of the first frame that are written already.
    written: usize,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    template: usize,
    id: u64,
    token: Token,
}

impl Outbox {
    /// Queues the frame of that index in the templates given to [`Outbox::flush`].
    pub fn push(&mut self, template: usize, id: u64, token: Token) {
        self.queue.push_back(Queued { template, id, token });
    }

    /// Forgets what is queued.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.written = 0;
    }

    /// Writes as much as `to` takes, many frames at a time. `heads` is scratch space.
    ///
    /// # Errors
    ///
    /// Those of `to`, but for "would block", which ends the writing for now.
    pub fn flush(
        &mut self,
        templates: &[Template],
        heads: &mut Vec<u8>,
        to: &mut impl Write,
    ) -> io::Result<()> {
        while !self.queue.is_empty() {
            heads.clear();
            for frame in self.queue.iter().take(BATCH) {
                templates[frame.template].write_head(frame.id, &frame.token, heads);
            }
            let mut slices = Vec::with_capacity(2 * BATCH);
            let (mut rest, mut skip) = (heads.as_slice(), self.written);
            for frame in self.queue.iter().take(BATCH) {
                let template = &templates[frame.template];
                let (head, more) = rest.split_at(template.head_len());
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
        while let Some(frame) = self.queue.front() {
            let len = templates[frame.template].len();
            if self.written < len {
                return;
            }
            self.written -= len;
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
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
        let templates = [Template::request(64), Template::request(2000)];
        let mut whole = Vec::new();
        let mut outbox = Outbox::default();
        for id in 0..300 {
            let template = id as usize % 2;
            outbox.push(template, id, token(id));
            templates[template].write_head(id, &token(id), &mut whole);
            whole.extend_from_slice(templates[template].tail());
        }
        let mut narrow = Narrow { taken: Vec::new(), width: 97, open: false };
        while !outbox.queue.is_empty() {
            outbox.flush(&templates, &mut Vec::new(), &mut narrow).unwrap();
        }
        assert!(narrow.taken == whole);
    }
}
