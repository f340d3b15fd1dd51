//! `meltemi decode`: what captured bytes say, one JSON object for each frame, or for each call of a capture of packets.

mod dump;
mod guess;
mod hex;
pub mod layout;
mod record;
mod talk;

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Write};
use std::rc::Rc;

use clap::ValueEnum;
use meltemi_codecs::{Codec, Error as CodecError, Step};
use serde_json::json;

use crate::capture::{self, Connections, Told};
use guess::{Guess, guess};
use record::Record;
use talk::{Shared, Talk};

/// How the bytes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// What they look like.
    #[default]
    Auto,
    /// A capture of packets: pcap or pcapng.
    Capture,
    /// Hexadecimal digits, as they are or as dumps have them.
    Hex,
    /// As they were sent by one side, or by both in turn.
    Raw,
}

/// How bytes are to be read, and shown.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The longest frame.
    pub max_frame_bytes: usize,
    /// How they are written.
    pub form: Form,
    /// What is shown of each frame. Of a capture, its lines alone are.
    pub view: View,
}

/// What is shown of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A line with what it says.
    Lines,
    /// Its bytes by field too.
    Bytes,
}

/// The longest frame that is read unless the command line says otherwise: twice what a plan lets pass by default.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// How many bytes are read at once.
const CHUNK: usize = 64 << 10;

/// Why decoding ended before the input did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input cannot be read.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// The bytes break the protocol, or the limit.
    #[error("offset {offset}: {what}")]
    Broken {
        /// Where, in bytes from the start of the input.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The capture of packets is broken, or not whole.
    #[error(transparent)]
    Capture(#[from] capture::Error),
    /// None of the protocols reads the bytes.
    #[error("offset 0: no known protocol reads this: {0}")]
    Unknown(String),
    /// The input ends inside a frame.
    #[error(
        "offset {end}: the input ends inside the frame that starts at offset {start}; it needs {missing} bytes more"
    )]
    Incomplete {
        /// Where the frame starts.
        start: u64,
        /// Where the input ends.
        end: u64,
        /// How many bytes are missing at least.
        missing: usize,
    },
}

/// Writes what bytes of any form say: frames with [`show`], or the calls of each connection of a capture. They may be of
/// any of the protocols: the one that reads the most is taken.
///
/// # Errors
///
/// The first fault. What was read before it is written by then. In a capture, a fault of one connection is a line of the
/// output, and no error.
pub fn read(
    protocols: &[Rc<dyn Codec>],
    manner: Manner,
    mut input: impl Read,
    mut output: impl Write,
) -> Result<(), Error> {
    let mut start = Vec::new();
    let mut chunk = vec![0; CHUNK];
    while start.len() < 4 {
        let read = fill(&mut input, &mut chunk).map_err(Error::Read)?;
        if read.is_empty() {
            break;
        }
        start.extend_from_slice(read);
    }
    match manner.form {
        Form::Auto if capture::is_capture(&start) => calls(protocols, manner, start, input, output),
        Form::Capture => calls(protocols, manner, start, input, output),
        Form::Auto if !hex::is_hex(&start) => frames(protocols, manner, start, input, &mut output),
        Form::Raw => frames(protocols, manner, start, input, &mut output),
        Form::Auto | Form::Hex => {
            input.read_to_end(&mut start).map_err(Error::Read)?;
            frames(protocols, manner, hex::read(&start)?, io::empty(), &mut output)
        }
    }
}

/// Writes a line for each call of a capture whose first bytes are `start`.
fn calls(
    protocols: &[Rc<dyn Codec>],
    manner: Manner,
    start: Vec<u8>,
    mut input: impl Read,
    output: impl Write,
) -> Result<(), Error> {
    let shared = Shared { protocols, max_len: manner.max_frame_bytes, output: RefCell::new((output, None)) };
    let connections = Connections::new(|pair, has_start| Talk::new(&shared, pair, has_start));
    let (Told { fragments, unknown_links }, outcome) = connections.read(start, &mut input);
    let (mut output, failed) = shared.output.into_inner();
    if let Some(error) = failed {
        return Err(Error::Write(error));
    }
    for (count, what) in
        [(fragments, "parts of fragmented packets"), (unknown_links, "packets of unknown links")]
    {
        if count > 0 {
            let line = json!({"error": format!("{count} {what} were passed over")});
            writeln!(output, "{line}").map_err(Error::Write)?;
        }
    }
    Ok(outcome?)
}

/// Writes a line for each frame of bytes that begin with `start`.
fn frames(
    protocols: &[Rc<dyn Codec>],
    manner: Manner,
    mut start: Vec<u8>,
    mut input: impl Read,
    output: &mut impl Write,
) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let protocol = guess(protocols, manner.max_frame_bytes, &[(None, &start)]);
        let names = || protocols.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(", ");
        match protocol {
            Guess::Is(codec) => {
                let input = Cursor::new(start).chain(input);
                return show(&*codec, manner.max_frame_bytes, manner.view, input, output);
            }
            Guess::None => return Err(Error::Unknown(names())),
            Guess::Open => {
                let read = fill(&mut input, &mut chunk).map_err(Error::Read)?;
                match (read.is_empty(), start.is_empty()) {
                    (true, true) => return Ok(()),
                    (true, false) => return Err(Error::Unknown(names())),
                    _ => start.extend_from_slice(read),
                }
            }
        }
    }
}

/// Writes a line with a JSON object to `output` for each frame in `input`, as soon as the frame is read. The memory it
/// takes is bounded by `max_len`, the longest frame it accepts.
///
/// # Errors
///
/// The first fault. What was read before it, the readable part of the broken frame included, is written by then.
pub fn decode(
    codec: &dyn Codec,
    max_len: usize,
    input: impl Read,
    output: &mut impl Write,
) -> Result<(), Error> {
    show(codec, max_len, View::Lines, input, output)
}

/// Writes what [`decode`] does, and the bytes of each frame too if they are to be seen.
///
/// # Errors
///
/// The first fault, and the bytes that it lies in are written by then.
pub fn show(
    codec: &dyn Codec,
    max_len: usize,
    view: View,
    mut input: impl Read,
    output: &mut impl Write,
) -> Result<(), Error> {
    let stop = |offset: u64, bytes: &[u8], at: usize, what: &str, output: &mut _| match view {
        View::Lines => Ok(()),
        View::Bytes => dump::stopped(offset, bytes, &codec.spans(bytes), at, what, output),
    };
    let mut buffer = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut start = 0_usize;
    let mut offset = 0_u64;
    loop {
        let rest = buffer.get(start..).unwrap_or_default();
        let step = match codec.split(codec.sender(rest), rest, max_len) {
            Ok(step) => step,
            Err(error) => {
                let (at, what) = fault(&error);
                stop(offset, rest, at, &what, output).map_err(Error::Write)?;
                return Err(Error::Broken { offset: offset + at as u64, what });
            }
        };
        match step {
            Step::Frame(frame) => {
                let bytes = rest.get(..frame.len).unwrap_or(rest);
                let (reading, error) = codec.inspect(&frame, bytes);
                write(&Record(&reading), output).map_err(Error::Write)?;
                if let Some(error) = error {
                    let (at, what) = fault(&error);
                    stop(offset, bytes, at, &what, output).map_err(Error::Write)?;
                    return Err(Error::Broken { offset: offset + at as u64, what });
                }
                if view == View::Bytes {
                    dump::frame(offset, bytes, &codec.spans(bytes), output).map_err(Error::Write)?;
                }
                start += frame.len;
                offset += frame.len as u64;
            }
            Step::NeedMore { at_least } => {
                buffer.drain(..start);
                start = 0;
                // Whoever follows a live capture sees each frame before the next one arrives.
                output.flush().map_err(Error::Write)?;
                let read = fill(&mut input, &mut chunk).map_err(Error::Read)?;
                buffer.extend_from_slice(read);
                if read.is_empty() && buffer.is_empty() {
                    return Ok(());
                }
                if read.is_empty() {
                    let end = offset + buffer.len() as u64;
                    let missing = at_least.saturating_sub(buffer.len());
                    let what = format!("the frame needs {missing} bytes more");
                    stop(offset, &buffer, buffer.len(), &what, output).map_err(Error::Write)?;
                    return Err(Error::Incomplete { start: offset, end, missing });
                }
            }
        }
    }
}

/// One read into `chunk`, and what it brought.
fn fill<'a>(input: &mut impl Read, chunk: &'a mut [u8]) -> io::Result<&'a [u8]> {
    loop {
        match input.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return Ok(chunk.get(..outcome?).unwrap_or_default()),
        }
    }
}

fn write(record: &Record<'_>, output: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *output, record)?;
    output.write_all(b"\n")
}

/// Where in a frame an error of the codec lies, and what is wrong there.
fn fault(error: &CodecError) -> (usize, String) {
    match error {
        CodecError::Malformed { what, offset } => (*offset, format!("malformed {what}")),
        CodecError::Unsupported { what, offset } => (*offset, format!("unsupported {what}")),
        other => (0, other.to_string()),
    }
}
