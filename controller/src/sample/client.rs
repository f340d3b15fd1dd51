use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use meltemi_codecs::dubbo::message::{self, Answer, Value};
use meltemi_codecs::{Codec, Dubbo, Error, Head, Kind, Peer, Step};

use super::{Call, SERVED_BY};

/// How long it waits for the next answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest response it takes.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// A Dubbo client with one connection, on which any number of calls may be in flight.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    next_id: u64,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The frame, as it came.
    pub frame: Vec<u8>,
    /// What it says.
    pub answer: Answer<'static>,
    /// The response's attachments.
    pub attachments: BTreeMap<String, String>,
}

impl Reply {
    /// The sample server that answered, if the call succeeded.
    pub fn server(&self) -> Option<&str> {
        match self.answer {
            Answer::Value(_) => self.attachments.get(SERVED_BY).map(String::as_str),
            _ => None,
        }
    }
}

impl Client {
    /// Connects to `address`.
    ///
    /// # Errors
    ///
    /// Nobody accepts the connection.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, input: Vec::new(), next_id: 0 })
    }

    /// The client's end of the connection, by which one knows it from another.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Makes one call and waits for its answer.
    ///
    /// # Errors
    ///
    /// As [`call_many`](Self::call_many).
    pub fn call(&mut self, call: Call<'_>) -> io::Result<Reply> {
        let mut replies = self.call_many(1, 1, |_| call)?;
        replies.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Makes `count` calls, the n-th being `call(n)`, with `in_flight` of them under way at any time, and returns their
    /// answers in the order of the calls.
    ///
    /// # Errors
    ///
    /// The connection ends, no answer comes for a while, or one comes that nobody waits for or that cannot be read.
    pub fn call_many<'a>(
        &mut self,
        count: usize,
        in_flight: usize,
        mut call: impl FnMut(usize) -> Call<'a>,
    ) -> io::Result<Vec<Reply>> {
        let mut replies: Vec<Option<Reply>> = vec![None; count];
        let first_id = self.next_id;
        self.next_id += count as u64;
        let (mut sent, mut answered) = (0, 0);
        let mut output = Vec::new();
        while answered < count {
            while sent < count && sent - answered < in_flight.max(1) {
                call(sent).write(first_id + sent as u64, &mut output);
                sent += 1;
            }
            self.stream.write_all(&output)?;
            output.clear();
            for (id, reply) in self.read()? {
                let slot =
                    id.checked_sub(first_id).and_then(|index| replies.get_mut(usize::try_from(index).ok()?));
                match slot {
                    Some(slot @ None) => *slot = Some(reply),
                    _ => {
                        return Err(io::Error::other(format!(
                            "an answer came that nobody waits for (id {id})"
                        )));
                    }
                }
                answered += 1;
            }
        }
        Ok(replies.into_iter().flatten().collect())
    }

    /// Waits for more bytes and returns the responses that they complete.
    fn read(&mut self) -> io::Result<Vec<(u64, Reply)>> {
        let mut chunk = vec![0; 64 << 10];
        let read = self.stream.read(&mut chunk).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                let why = format!("no answer came within {} s", PATIENCE.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, why)
            }
            _ => error,
        })?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed on the client",
            ));
        }
        self.input.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let mut replies = Vec::new();
        let mut start = 0;
        while let Step::Frame(frame) = Dubbo
            .split(Peer::Server, self.input.get(start..).unwrap_or_default(), MAX_FRAME_BYTES)
            .map_err(io::Error::other)?
        {
            if let Kind::Response(_) = frame.kind {
                let bytes = self.input.get(start..start + frame.len).unwrap_or_default();
                replies.push((frame.id, reply(bytes).map_err(io::Error::other)?));
            }
            start += frame.len;
        }
        self.input.drain(..start);
        Ok(replies)
    }
}

fn reply(frame: &[u8]) -> Result<Reply, Error> {
    let mut head = Head::new();
    Dubbo.response_head(frame, &mut head)?;
    let attachments = head.attachments().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Reply { frame: frame.to_owned(), answer: owned(message::read_answer(frame)?), attachments })
}

fn owned(answer: Answer<'_>) -> Answer<'static> {
    let text = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    match answer {
        Answer::Value(Value::Text(value)) => Answer::Value(Value::Text(text(value))),
        Answer::Exception { class, message } => {
            Answer::Exception { class: text(class), message: text(message) }
        }
        Answer::Error { status, text: error } => Answer::Error { status, text: text(error) },
        // The sample servers give nothing but text.
        _ => Answer::Value(Value::Other),
    }
}
