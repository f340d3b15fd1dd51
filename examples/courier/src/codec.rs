use meltemi_codecs::{
    Codec, Depth, Edit, Error, Failure, Frame, Head, Kind, Operation, Outcome, Peer, Sharing, Step,
};

use crate::{ANSWER, CLOSING, COMMANDS, HEADER, MAGIC, ONE_WAY, PING, STATUSES, number, write};

/// The courier protocol.
#[derive(Debug, Clone, Copy)]
pub struct Courier;

impl Codec for Courier {
    fn name(&self) -> &str {
        "courier"
    }
    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }
    fn max_id(&self) -> u64 {
        u32::MAX.into()
    }
    fn operation(&self) -> Operation<'_> {
        Operation { service: "depot", method: "command" }
    }
    fn depth(&self, _name: &str) -> Depth {
        Depth::Head
    }
    fn split(&self, _from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        if !input.starts_with(&MAGIC) && !MAGIC.starts_with(input) {
            return Err(Error::Malformed { what: "magic", offset: 0 });
        } else if input.len() < HEADER {
            return Ok(Step::NeedMore { at_least: HEADER });
        }
        let size = number(input, 12, 4).saturating_add(16);
        match usize::try_from(size) {
            Ok(len) if len > max_len => Err(Error::TooLarge { what: "frame", size, limit: max_len }),
            Ok(len) if len > input.len() => Ok(Step::NeedMore { at_least: len }),
            Ok(len) => Ok(Step::Frame(describe(input, len))),
            Err(_) => Err(Error::TooLarge { what: "frame", size, limit: max_len }),
        }
    }
    fn head(&self, request: &[u8], _depth: Depth, head: &mut Head) -> Result<(), Error> {
        head.clear();
        let command = number(request, 8, 2);
        head.push("command", COMMANDS.get(command as usize).unwrap_or(&"unknown"));
        let (length, rest) = request.get(HEADER..).and_then(|body| body.split_first()).unwrap_or((&0, &[]));
        let depot = rest.get(..usize::from(*length)).and_then(|depot| str::from_utf8(depot).ok());
        head.push("depot", depot.ok_or(Error::Malformed { what: "depot", offset: HEADER })?);
        Ok(())
    }
    fn front(&self, from: Peer, input: &[u8], max_len: usize, head: &mut Head) -> Option<Frame> {
        let Ok(Step::NeedMore { at_least: len }) = self.split(from, input, max_len) else { return None };
        if from == Peer::Client {
            self.head(input, Depth::Head, head).ok()?;
        }
        (input.len() > HEADER).then(|| describe(input, len))
    }
    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        match (frame.get(..4), frame.get(8..)) {
            (Some(front), Some(rest)) if edit.keeps_attachments() => {
                let id = edit.id.unwrap_or(number(frame, 4, 4)) as u32;
                for part in [front, &id.to_be_bytes(), rest] {
                    out.extend_from_slice(part);
                }
                Ok(())
            }
            _ => Err(Error::Unsupported { what: "attachments", offset: 0 }),
        }
    }
    fn carries_attachments(&self) -> bool {
        false
    }
    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        let status = match failure {
            Failure::BadRequest => 2,
            Failure::NoRoute => 3,
            Failure::Timeout => 5,
            Failure::Overloaded | Failure::RateLimited => 6,
            Failure::Denied => 7,
            _ => 4,
        };
        write(out, ANSWER, number(request, 4, 4) as u32, 0, status, text.as_bytes());
    }
    fn heartbeat_reply(&self, heartbeat: &[u8], out: &mut Vec<u8>) {
        write(out, PING | ANSWER, number(heartbeat, 4, 4) as u32, 0, 0, &[]);
    }
    fn drain_notice(&self, out: &mut Vec<u8>) {
        write(out, CLOSING, 0, 0, 0, &[]);
    }
    fn status_name(&self, status: u32) -> Option<&str> {
        STATUSES.get(status as usize).copied()
    }
    fn status_code(&self, name: &str) -> Option<u32> {
        STATUSES.iter().position(|status| *status == name).map(|status| status as u32)
    }
}

/// What the header says of a frame of `len` bytes.
fn describe(header: &[u8], len: usize) -> Frame {
    let kind = match (number(header, 3, 1) as u8, number(header, 10, 2) as u32) {
        (0, _) => Kind::Request,
        (ONE_WAY, _) => Kind::OneWay,
        (ANSWER, 0) => Kind::Response(Outcome::Success),
        (ANSWER, 1) => Kind::Response(Outcome::Exception),
        (ANSWER, status) => Kind::Response(Outcome::Error(status)),
        (PING, _) => Kind::HeartbeatRequest,
        (CLOSING, _) => Kind::Drain,
        _ => Kind::HeartbeatResponse,
    };
    Frame { len, head: HEADER, kind, id: number(header, 4, 4) }
}
