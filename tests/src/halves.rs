//! Large messages in two halves, to a server and back: whoever passes them on while they come lets each first half through
//! before the second is sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use meltemi_codecs::{Codec, Frame, Peer, Step};

use crate::wait::DEADLINE;

/// A server that answers nothing by itself.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    came: Receiver<(Connection, Vec<u8>)>,
}

/// A connection, by its number.
type Connection = (usize, TcpStream);

/// How many bytes less than a half may have come: another id may be shorter.
const SLACK: usize = 64;

impl Server {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bytes, came) = channel();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (mut stream, bytes) = (stream.unwrap(), bytes.clone());
                thread::spawn(move || {
                    let mut chunk = vec![0; 64 << 10];
                    loop {
                        // None are its end.
                        let count = stream.read(&mut chunk).unwrap_or(0);
                        let connection = (number, stream.try_clone().unwrap());
                        let sent = bytes.send((connection, chunk[..count].to_vec()));
                        if count == 0 || sent.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, came }
    }

    /// Reads until more bytes, and so many, have come to `input`, all on one connection: that. Others may end meanwhile.
    fn read(&self, input: &mut Vec<u8>, count: usize) -> Connection {
        loop {
            let (connection, bytes) = self.came.recv_timeout(DEADLINE).expect("more bytes for the server");
            input.extend(&bytes);
            if input.len() >= count && !bytes.is_empty() {
                return connection;
            }
        }
    }

    /// Sends `request` by `proxy` in halves, and back what `answer` makes of the id that came.
    ///
    /// # Panics
    ///
    /// When a first half does not come before the second is sent, or anything comes changed in more than its first bytes.
    pub fn exchange(
        &self,
        codec: &dyn Codec,
        proxy: SocketAddr,
        request: &[u8],
        answer: impl FnOnce(u64) -> Vec<u8>,
    ) {
        let mut client = TcpStream::connect(proxy).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (front, rest) = request.split_at(request.len() / 2);
        client.write_all(front).unwrap();
        let mut seen = Vec::new();
        self.read(&mut seen, front.len() - SLACK);
        client.write_all(rest).unwrap();
        let (_, mut server) = self.read(&mut seen, request.len() - SLACK);
        let frame = loop {
            match whole(codec, Peer::Client, &seen) {
                Some(frame) => break frame,
                None => (_, server) = self.read(&mut seen, 0),
            }
        };
        assert!(seen.ends_with(&request[request.len() - rest.len()..]), "the request came changed");

        let answer = answer(frame.id);
        let (front, rest) = answer.split_at(answer.len() / 2);
        let mut seen = vec![0; front.len() - SLACK];
        thread::scope(|scope| {
            let sent = scope.spawn(|| (&server).write_all(front).unwrap());
            client.read_exact(&mut seen).unwrap();
            sent.join().unwrap();
            scope.spawn(|| (&server).write_all(rest).unwrap());
            while whole(codec, Peer::Server, &seen).is_none() {
                let mut chunk = vec![0; 64 << 10];
                let count = client.read(&mut chunk).unwrap();
                assert!(count > 0, "the answer ends early");
                seen.extend(&chunk[..count]);
            }
        });
        assert!(seen.ends_with(rest), "the answer came changed");
    }

    /// Sends the first half of `request` by `proxy`, and leaves when it has come: so does the proxy.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn tear(&self, proxy: SocketAddr, request: &[u8]) {
        let mut client = TcpStream::connect(proxy).unwrap();
        client.write_all(&request[..request.len() / 2]).unwrap();
        let (torn, _) = self.read(&mut Vec::new(), request.len() / 2 - SLACK);
        drop(client);
        loop {
            let ((number, _), bytes) = self.came.recv_timeout(DEADLINE).expect("the connection ends");
            if number == torn && bytes.is_empty() {
                return;
            }
        }
    }
}

/// The frame that `input` is, if it is complete.
fn whole(codec: &dyn Codec, from: Peer, input: &[u8]) -> Option<Frame> {
    match codec.split(from, input, usize::MAX).unwrap() {
        Step::Frame(frame) => Some(frame).filter(|frame| frame.len == input.len()),
        Step::NeedMore { .. } => None,
    }
}
