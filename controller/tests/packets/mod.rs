//! Captures made of what two programs say to each other.

// Each test uses what it needs.
#![allow(dead_code)]

use std::net::SocketAddr;

/// A capture that is written: pcap of plain IPv4.
pub struct Capture {
    bytes: Vec<u8>,
    /// In microseconds.
    now: u64,
}

/// A connection that is captured.
pub struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    /// The numbers of the bytes that come next, of the client and of the server.
    next: [u32; 2],
}

const SYN: u8 = 2;
const FIN: u8 = 1;
const ACK: u8 = 16;

impl Capture {
    /// Nothing is captured yet.
    pub fn new() -> Self {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0; 8]);
        bytes.extend(0x4_0000_u32.to_le_bytes());
        bytes.extend(101_u32.to_le_bytes());
        Self { bytes, now: 1_700_000_000_000_000 }
    }

    /// The capture as a file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lets time pass, in microseconds.
    pub fn wait(&mut self, micros: u64) {
        self.now += micros;
    }

    /// A client connects to a server on this machine.
    pub fn connect(&mut self, client: u16, server: u16) -> Connection {
        let mut connection = Self::joined(client, server);
        self.packet(&mut connection, 0, SYN, &[]);
        self.packet(&mut connection, 1, SYN | ACK, &[]);
        self.packet(&mut connection, 0, ACK, &[]);
        connection
    }

    /// A connection of which the start is not captured.
    pub fn joined(client: u16, server: u16) -> Connection {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Connection { client: address(client), server: address(server), next: [1000, 5000] }
    }

    /// The client sends bytes.
    pub fn ask(&mut self, connection: &mut Connection, bytes: &[u8]) {
        self.send(connection, 0, bytes);
    }

    /// The server sends bytes.
    pub fn answer(&mut self, connection: &mut Connection, bytes: &[u8]) {
        self.send(connection, 1, bytes);
    }

    /// Both sides end the connection.
    pub fn close(&mut self, mut connection: Connection) {
        self.packet(&mut connection, 0, FIN | ACK, &[]);
        self.packet(&mut connection, 1, FIN | ACK, &[]);
    }

    fn send(&mut self, connection: &mut Connection, side: usize, bytes: &[u8]) {
        for segment in bytes.chunks(1448) {
            self.packet(connection, side, ACK, segment);
        }
    }

    fn packet(&mut self, connection: &mut Connection, side: usize, flags: u8, payload: &[u8]) {
        let ends = [connection.client, connection.server];
        let (from, to) = (ends[side], ends[1 - side]);
        let size = u16::try_from(40 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(size.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        packet.extend(from.port().to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        packet.extend(connection.next[side].to_be_bytes());
        let waits_for = if flags & ACK == 0 { 0 } else { connection.next[1 - side] };
        packet.extend(waits_for.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        let taken = u32::from(size) - 40 + u32::from(flags & (SYN | FIN) != 0);
        connection.next[side] = connection.next[side].wrapping_add(taken);
        self.now += 100;
        let (seconds, micros) = (self.now / 1_000_000, self.now % 1_000_000);
        self.bytes.extend(u32::try_from(seconds).unwrap().to_le_bytes());
        self.bytes.extend(u32::try_from(micros).unwrap().to_le_bytes());
        self.bytes.extend(u32::from(size).to_le_bytes());
        self.bytes.extend(u32::from(size).to_le_bytes());
        self.bytes.extend(packet);
    }
}
