use crate::{COMMANDS, MAGIC, ONE_WAY};

/// The number in `width` bytes of `frame` from `at` on; bytes that are not there count as zero.
pub fn number(frame: &[u8], at: usize, width: usize) -> u64 {
    frame.iter().skip(at).take(width).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Appends a frame.
pub fn write(out: &mut Vec<u8>, flags: u8, id: u32, command: u16, status: u16, body: &[u8]) {
    out.extend_from_slice(&MAGIC);
    out.push(flags);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&command.to_be_bytes());
    out.extend_from_slice(&status.to_be_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(body);
}

/// Appends the request `command` for `depot`; `notify` wants no answer. Of a depot's name, 255 bytes at most are sent;
/// an unknown command is sent as one that no depot knows.
pub fn write_request(out: &mut Vec<u8>, id: u32, depot: &str, command: &str, parcel: &[u8]) {
    let number = COMMANDS.iter().position(|known| *known == command).unwrap_or(usize::from(u16::MAX));
    let flags = if command == "notify" { ONE_WAY } else { 0 };
    let depot = depot.as_bytes().get(..255).unwrap_or(depot.as_bytes());
    let length = u8::try_from(depot.len()).unwrap_or(u8::MAX);
    let body = [&[length], depot, parcel].concat();
    write(out, flags, id, u16::try_from(number).unwrap_or(u16::MAX), 0, &body);
}
