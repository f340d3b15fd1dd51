//! Bytes on their way.

use std::collections::VecDeque;

/// What is on its way from one end to the other, in order.
#[derive(Default)]
pub struct Pipe {
    chunks: VecDeque<Chunk>,
}

struct Chunk {
    /// When it arrives.
    at: u64,
    bytes: Vec<u8>,
    /// It is handed over by itself.
    is_apart: bool,
}

impl Pipe {
    /// When the last of it arrives.
    pub fn last(&self) -> u64 {
        self.chunks.back().map_or(0, |last| last.at)
    }

    pub fn push(&mut self, at: u64, bytes: &[u8], is_apart: bool) {
        self.chunks.push_back(Chunk { at, bytes: bytes.to_vec(), is_apart });
    }

    /// What has arrived by `now`, as far as it is handed over at once.
    pub fn arrived(&mut self, now: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunks.pop_front_if(|next| next.at <= now) {
            bytes.extend_from_slice(&chunk.bytes);
            if chunk.is_apart || self.chunks.front().is_some_and(|next| next.is_apart) {
                break;
            }
        }
        bytes
    }
}
