use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::Linktype;

use super::packets::Packet;

/// What one side of a TCP connection sent in one packet.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// Who it was sent to.
    pub to: SocketAddr,
    /// The number of its first byte.
    pub number: u32,
    /// The number of the byte that its sender waits for.
    pub waits_for: Option<u32>,
    /// It opens the connection.
    pub is_syn: bool,
    /// Nothing comes after it.
    pub is_fin: bool,
    /// It breaks the connection.
    pub is_reset: bool,
    /// The bytes, as far as they were captured.
    pub payload: &'a [u8],
}

/// What a packet is, for who looks for TCP.
#[derive(Debug)]
pub enum Content<'a> {
    /// A segment.
    Tcp(Segment<'a>),
    /// A part of a packet that was cut on its way.
    Fragment,
    /// Anything else.
    Other,
    /// The kind of link is not known.
    UnknownLink,
}

/// The TCP segment in a packet.
pub fn content<'a>(packet: &Packet<'a>) -> Content<'a> {
    let data = packet.data;
    let of_type = |at: usize, header: usize| {
        let kind = data.get(at..).and_then(|rest| rest.first_chunk()).map(|kind| u16::from_be_bytes(*kind));
        Some(LaxSlicedPacket::from_ether_type(EtherType(kind?), data.get(header..)?))
    };
    let of_ip = |header: usize| LaxSlicedPacket::from_ip(data.get(header..)?).ok();
    let sliced = match packet.link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        Linktype::LINUX_SLL => of_type(14, 16),
        LINUX_SLL2 => of_type(0, 20),
        Linktype::NULL | Linktype::LOOP => of_ip(4),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => of_ip(0),
        _ => return Content::UnknownLink,
    };
    let Some(LaxSlicedPacket { net: Some(net), transport, .. }) = sliced else { return Content::Other };
    let (from, to): (IpAddr, IpAddr) = match &net {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => return Content::Other,
    };
    match transport {
        Some(TransportSlice::Tcp(tcp)) => Content::Tcp(Segment {
            from: SocketAddr::new(from, tcp.source_port()),
            to: SocketAddr::new(to, tcp.destination_port()),
            number: tcp.sequence_number(),
            waits_for: tcp.ack().then(|| tcp.acknowledgment_number()),
            is_syn: tcp.syn(),
            is_fin: tcp.fin(),
            is_reset: tcp.rst(),
            payload: tcp.payload(),
        }),
        _ if net.ip_payload_ref().is_some_and(|payload| payload.fragmented) => Content::Fragment,
        _ => Content::Other,
    }
}

const LINUX_SLL2: Linktype = Linktype(276);
