use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread;

use meltemi_codecs::{Codec, Depth, Failure, Head, Kind, Peer, Step};

use crate::{ANSWER, Courier, HEADER, number, write, write_request};

/// The largest frame that a peer takes, in bytes.
const LIMIT: usize = 1 << 20;

/// Serves every connection of `listener` as a depot called `name`, one thread each. The answer to `track` and `deliver`
/// is `<name>: <command> <parcel> at <depot>`; the parcel `bomb` is refused. What arrives one-way is passed to
/// `notified`.
///
/// # Errors
///
/// The listener cannot accept.
pub fn serve(
    listener: &TcpListener,
    name: &str,
    notified: impl Fn(&str) + Copy + Send + Sync,
) -> io::Result<()> {
    thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept()?;
            // A client that breaks the protocol or leaves ends its own connection and nothing else.
            scope.spawn(move || serve_one(stream, name, notified));
        }
    })
}

fn serve_one(mut stream: TcpStream, name: &str, notified: impl Fn(&str)) -> io::Result<()> {
    let mut input = Vec::new();
    let mut out = Vec::new();
    let mut head = Head::new();
    while let Some((kind, frame)) = read_frame(&stream, &mut input, Peer::Client)? {
        match kind {
            Kind::HeartbeatRequest => Courier.heartbeat_reply(&frame, &mut out),
            Kind::Request | Kind::OneWay => match Courier.head(&frame, Depth::Head, &mut head) {
                Ok(()) => {
                    let depot = head.get("depot").unwrap_or_default();
                    let command = head.get("command").unwrap_or_default();
                    let parcel = frame.get(HEADER..).and_then(|body| body.get(1..)?.get(depot.len()..));
                    let parcel = String::from_utf8_lossy(parcel.unwrap_or_default());
                    let text = format!("{name}: {command} {parcel} at {depot}");
                    let status = u16::from(parcel == "bomb");
                    match kind {
                        Kind::OneWay => notified(&text),
                        _ => write(&mut out, ANSWER, number(&frame, 4, 4) as u32, 0, status, text.as_bytes()),
                    }
                }
                Err(error) => Courier.error_reply(&frame, Failure::BadRequest, &error.to_string(), &mut out),
            },
            _ => {}
        }
        stream.write_all(&out)?;
        out.clear();
    }
    Ok(())
}

/// Reads the next frame; `None` when the peer ends its side between two.
fn read_frame(stream: &TcpStream, input: &mut Vec<u8>, from: Peer) -> io::Result<Option<(Kind, Vec<u8>)>> {
    loop {
        match Courier.split(from, input, LIMIT).map_err(io::Error::other)? {
            Step::Frame(frame) => return Ok(Some((frame.kind, input.drain(..frame.len).collect()))),
            Step::NeedMore { at_least } => {
                let missing = u64::try_from(at_least.saturating_sub(input.len())).unwrap_or(u64::MAX);
                if stream.take(missing).read_to_end(input)? == 0 {
                    return if input.is_empty() {
                        Ok(None)
                    } else {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    };
                }
            }
        }
    }
}

/// A client with one connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    last_id: u32,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address)?, input: Vec::new(), last_id: 0 })
    }

    /// Sends a request and gives its id.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn send(&mut self, depot: &str, command: &str, parcel: &[u8]) -> io::Result<u32> {
        self.last_id = self.last_id.wrapping_add(1);
        let mut out = Vec::new();
        write_request(&mut out, self.last_id, depot, command, parcel);
        self.stream.write_all(&out)?;
        Ok(self.last_id)
    }

    /// Receives the next answer, to whichever request: its id, status and text.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the server breaks the protocol.
    pub fn receive(&mut self) -> io::Result<(u32, u16, String)> {
        loop {
            match read_frame(&self.stream, &mut self.input, Peer::Server)? {
                Some((Kind::Response(_), frame)) => {
                    let text = String::from_utf8_lossy(frame.get(HEADER..).unwrap_or_default()).into_owned();
                    return Ok((number(&frame, 4, 4) as u32, number(&frame, 10, 2) as u16, text));
                }
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
