//! `meltemi decode`: what captured bytes say, one JSON object for each frame.

mod dump;
pub mod layout;
mod record;

use std::io::{self, Read, Write};

use meltemi_codecs::{Codec, Error as CodecError, Step};

use record::Record;

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
    /// The input is a capture of packets.
    #[error(
        "this is a capture of packets ({0}), of which the frames are not read yet; `tcpflow -r FILE` writes what each side sent \
         into a file of its own, which can be read"
    )]
    Capture(&'static str),
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
                if let Some(capture) = capture(rest).filter(|_| offset == 0) {
                    return Err(Error::Capture(capture));
                }
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
                let read = read(&mut input, &mut chunk).map_err(Error::Read)?;
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

/// The kind of capture that bytes are the start of.
fn capture(bytes: &[u8]) -> Option<&'static str> {
    match bytes.first_chunk()? {
        b"\xd4\xc3\xb2\xa1" | b"\xa1\xb2\xc3\xd4" | b"\x4d\x3c\xb2\xa1" | b"\xa1\xb2\x3c\x4d" => Some("pcap"),
        b"\x0a\x0d\x0d\x0a" => Some("pcapng"),
        _ => None,
    }
}

/// One read into `chunk`, and what it brought.
fn read<'a>(input: &mut impl Read, chunk: &'a mut [u8]) -> io::Result<&'a [u8]> {
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
