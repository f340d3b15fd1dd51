use std::io::{self, Read};

use pcap_parser::nom;
use pcap_parser::{
    Block, Linktype, PcapError, parse_block_be, parse_block_le, parse_pcap_frame, parse_pcap_frame_be,
    parse_pcap_header,
};

/// The longest packet or block of a capture, in bytes: more than any link carries.
const LONGEST: usize = 64 << 20;

/// How many bytes are read at once.
const CHUNK: usize = 64 << 10;

/// Why the packets of a capture end before the capture does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// It ends inside a packet.
    #[error("offset {end}: the capture ends inside the packet that starts at offset {start}")]
    Cut {
        /// Where the packet starts.
        start: u64,
        /// Where the capture ends.
        end: u64,
    },
    /// There is no packet where one should be.
    #[error("offset {offset}: the capture is broken: {what}")]
    Broken {
        /// Where, in bytes from the start of the capture.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
}

/// A packet as it was captured.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// What the bytes start with.
    pub link: Linktype,
    /// The bytes.
    pub data: &'a [u8],
}

/// Whether bytes are the start of a capture.
pub fn is_capture(bytes: &[u8]) -> bool {
    const MAGICS: [[u8; 4]; 5] = [
        *b"\xd4\xc3\xb2\xa1",
        *b"\xa1\xb2\xc3\xd4",
        *b"\x4d\x3c\xb2\xa1",
        *b"\xa1\xb2\x3c\x4d",
        *b"\x0a\x0d\x0d\x0a",
    ];
    bytes.first_chunk().is_some_and(|magic| MAGICS.contains(magic))
}

/// Hands every packet of a capture, whose first bytes are in `buffer`, to `take`. A live one is followed: each packet is
/// handed on as soon as it is complete.
///
/// # Errors
///
/// The capture is cut or broken; what came before was handed on.
pub fn read(
    mut buffer: Vec<u8>,
    input: &mut impl Read,
    mut take: impl FnMut(Packet<'_>),
) -> Result<(), Error> {
    let mut form = Form::Unknown;
    let mut chunk = vec![0; CHUNK];
    let (mut start, mut offset) = (0_usize, 0_u64);
    loop {
        let rest = buffer.get(start..).unwrap_or_default();
        match form.next(rest) {
            Ok((len, packet)) => {
                if let Some(packet) = packet {
                    take(packet);
                }
                start += len;
                offset += len as u64;
            }
            Err(nom::Err::Incomplete(_)) if rest.len() <= LONGEST => {
                buffer.drain(..start);
                start = 0;
                let read = input.read(&mut chunk);
                let read = match read {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    outcome => outcome.map_err(Error::Read)?,
                };
                buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
                if read == 0 && buffer.is_empty() {
                    return Ok(());
                }
                if read == 0 {
                    return Err(Error::Cut { start: offset, end: offset + buffer.len() as u64 });
                }
            }
            Err(error) => {
                let what = match error {
                    nom::Err::Incomplete(_) => format!("a packet of more than {} MiB", LONGEST >> 20),
                    nom::Err::Error(_) | nom::Err::Failure(_) => "no packet starts here".to_owned(),
                };
                return Err(Error::Broken { offset, what });
            }
        }
    }
}

/// The length of a block, and the packet in it.
type Parsed<'a> = Result<(usize, Option<Packet<'a>>), nom::Err<PcapError<&'a [u8]>>>;

/// What kind of capture it is, as far as it has been read.
enum Form {
    Unknown,
    Pcap { link: Linktype, is_big_endian: bool, is_nanoseconds: bool },
    PcapNg { is_big_endian: bool, interfaces: Vec<Interface> },
}

/// Where the packets of a pcapng come from.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    /// Of its clock, in a second.
    ticks: u64,
    /// To be added to its clock, in seconds.
    offset: i64,
}

const NANOSECONDS: u64 = 1_000_000_000;

impl Form {
    /// How long the block at the front of `rest` is, and the packet in it.
    fn next<'a>(&mut self, rest: &'a [u8]) -> Parsed<'a> {
        let length = |left: &[u8]| rest.len() - left.len();
        match self {
            Self::Unknown if rest.starts_with(b"\x0a\x0d\x0d\x0a") => {
                *self = Self::PcapNg { is_big_endian: false, interfaces: Vec::new() };
                self.next(rest)
            }
            Self::Unknown => {
                let (left, header) = parse_pcap_header(rest)?;
                *self = Self::Pcap {
                    link: header.network,
                    is_big_endian: header.is_bigendian(),
                    is_nanoseconds: header.is_nanosecond_precision(),
                };
                Ok((length(left), None))
            }
            Self::Pcap { link, is_big_endian, is_nanoseconds } => {
                if rest.is_empty() {
                    return Err(nom::Err::Incomplete(nom::Needed::Unknown));
                }
                let parse = if *is_big_endian { parse_pcap_frame_be } else { parse_pcap_frame };
                let (left, block) = parse(rest)?;
                let fraction = u64::from(block.ts_usec) * if *is_nanoseconds { 1 } else { 1000 };
                let time = (u64::from(block.ts_sec) * NANOSECONDS).saturating_add(fraction);
                Ok((length(left), Some(Packet { time, link: *link, data: block.data })))
            }
            Self::PcapNg { is_big_endian, interfaces } => {
                let parse = if *is_big_endian { parse_block_be } else { parse_block_le };
                let (left, block) = parse(rest)?;
                let packet = match block {
                    Block::SectionHeader(header) => {
                        *is_big_endian = header.big_endian();
                        interfaces.clear();
                        None
                    }
                    Block::InterfaceDescription(interface) => {
                        interfaces.push(Interface {
                            link: interface.linktype,
                            ticks: ticks(interface.if_tsresol),
                            offset: interface.if_tsoffset,
                        });
                        None
                    }
                    Block::EnhancedPacket(packet) => {
                        let interface = interfaces.get(packet.if_id as usize).copied();
                        let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                        let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
                        interface.map(|from| Packet { time: from.time(ticks), link: from.link, data })
                    }
                    Block::SimplePacket(packet) => {
                        let data = packet.data.get(..packet.origlen as usize).unwrap_or(packet.data);
                        interfaces.first().map(|from| Packet { time: 0, link: from.link, data })
                    }
                    _ => None,
                };
                Ok((length(left), packet))
            }
        }
    }
}

impl Interface {
    /// What the interface's clock says, in nanoseconds since 1970.
    fn time(self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * u128::from(NANOSECONDS) / u128::from(self.ticks);
        let time =
            i128::from(self.offset) * i128::from(NANOSECONDS) + i128::try_from(nanoseconds).unwrap_or(0);
        u64::try_from(time).unwrap_or(0)
    }
}

/// What `if_tsresol` says: a power of ten, or of two.
fn ticks(resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7f);
    let ticks =
        if resolution & 0x80 == 0 { 10_u64.checked_pow(exponent) } else { 1_u64.checked_shl(exponent) };
    ticks.unwrap_or(1_000_000)
}
