//! Whether a layout reads what it was learnt from.

use std::collections::HashMap;

use meltemi_codecs::layout::Layout;
use meltemi_codecs::{Codec, Depth, Head, Kind, Peer, Step};

use super::frames::Frames;

/// What a layout makes of the frames that it was learnt from.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Requests that are answered.
    pub requests: usize,
    /// Those that are not.
    pub one_way: usize,
    /// Signs of life and their answers.
    pub heartbeats: usize,
    /// Answers.
    pub answers: usize,
    /// Those whose request was found.
    pub paired: usize,
    /// Requests of which the service was read.
    pub services: usize,
    /// Requests of which the method was read.
    pub methods: usize,
    /// Requests of which the parts do not fit.
    pub unread: usize,
}

impl Proof {
    /// Requests that are no signs of life.
    pub fn calls(&self) -> usize {
        self.requests + self.one_way
    }
}

/// Splits the frames with the layout.
///
/// # Errors
///
/// One is not split as it was found, and why.
pub fn prove(layout: &Layout, frames: &Frames<'_>) -> Result<Proof, String> {
    let mut proof = Proof::default();
    let mut head = Head::new();
    let mut open: HashMap<u64, usize> = HashMap::new();
    let mut talk = 0;
    let operation = layout.operation();
    let (service, method) = (operation.service.to_owned(), operation.method.to_owned());
    for (number, frame) in frames.all.iter().enumerate() {
        if frame.talk != talk {
            talk = frame.talk;
            open.clear();
        }
        let len = frame.whole.len();
        let read = match layout.split(frame.from, frame.whole, len) {
            Ok(Step::Frame(read)) if read.len == len => read,
            Ok(Step::Frame(read)) => {
                return Err(format!("frame {number} has {len} bytes and is read as one of {}", read.len));
            }
            Ok(Step::NeedMore { at_least }) => {
                return Err(format!("frame {number} has {len} bytes and is read as one of {at_least}"));
            }
            Err(error) => return Err(format!("frame {number}: {error}")),
        };
        match read.kind {
            Kind::Request | Kind::OneWay => {
                match read.kind {
                    Kind::Request => {
                        proof.requests += 1;
                        *open.entry(read.id).or_default() += 1;
                    }
                    _ => proof.one_way += 1,
                }
                if frame.from == Peer::Server {
                    return Err(format!("frame {number} is an answer and is read as a request"));
                }
                proof.unread += usize::from(layout.head(frame.whole, Depth::Attachments, &mut head).is_err());
                proof.services += usize::from(head.get(&service).is_some());
                proof.methods += usize::from(head.get(&method).is_some());
            }
            Kind::Response(_) => {
                if frame.from == Peer::Client {
                    return Err(format!("frame {number} is a request and is read as an answer"));
                }
                proof.answers += 1;
                if let Some(count) = open.get_mut(&read.id).filter(|count| **count > 0) {
                    *count -= 1;
                    proof.paired += 1;
                }
            }
            _ => proof.heartbeats += 1,
        }
    }
    Ok(proof)
}
