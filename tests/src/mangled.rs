//! Requests that break off, or have a byte spoilt.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::wait::DEADLINE;

/// How many of a request's first bytes are spoilt, one at a time.
const SPOILT: usize = 32;

/// Sends each beginning of a request on a connection of its own, which then is closed, reset, or ended on one side alone; and
/// the request with each of its first bytes spoilt. `between` is called now and again.
///
/// # Panics
///
/// When a beginning of the request is answered, or a connection that was ended does not end.
pub fn send_mangled(address: SocketAddr, request: &[u8], mut between: impl FnMut()) {
    for len in 1..request.len() {
        let stream = send(address, &request[..len]);
        match len % 3 {
            0 => drop(stream),
            1 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            _ => assert!(rest(stream).is_empty(), "the first {len} bytes are answered"),
        }
        if len % 16 == 0 {
            between();
        }
    }
    for at in 0..request.len().min(SPOILT) {
        let mut bytes = request.to_vec();
        bytes[at] ^= 0xff;
        rest(send(address, &bytes));
        if at % 8 == 0 {
            between();
        }
    }
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// What comes until the end, once nothing more is sent.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // The other side may have reset it already.
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection does not end"),
        _ => rest,
    }
}
