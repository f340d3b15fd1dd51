//! A raw Dubbo client that sends what the test asks for, well formed or not.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::dubbo::{Argument, Frame};
use crate::wait::DEADLINE;

/// One client connection.
pub struct Client {
    reader: BufReader<TcpStream>,
    last_id: u64,
}

impl Client {
    /// Connects to `address`.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { reader: BufReader::with_capacity(1 << 16, stream), last_id: 0 }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the proxy takes no more within the deadline.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    /// Another handle to send with, while this one receives.
    pub fn sender(&self) -> TcpStream {
        self.reader.get_ref().try_clone().unwrap()
    }

    /// Receives the next frame; `None` when the proxy has closed the connection.
    ///
    /// # Errors
    ///
    /// The connection is lost, nothing came within the deadline, or what came is no frame.
    pub fn try_receive(&mut self) -> io::Result<Option<Frame>> {
        Frame::read(&mut self.reader)
    }

    /// Receives the next frame.
    pub fn receive(&mut self) -> Frame {
        self.try_receive().unwrap().expect("the proxy closed the connection")
    }

    /// Receives the end of the connection, closed or reset.
    pub fn receive_end(&mut self) {
        match self.try_receive() {
            Ok(None) => {}
            Ok(Some(frame)) => panic!("a frame where the end was due: {frame:?}"),
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the connection was left open"),
        }
    }

    /// Calls `method` and receives its answer.
    pub fn call(&mut self, method: &str, argument: impl Into<Argument>) -> Frame {
        self.call_with(method, argument, &[])
    }

    /// Calls `method` with attachments and receives its answer. A wish of the proxy's that clients leave is not heeded.
    pub fn call_with(
        &mut self,
        method: &str,
        argument: impl Into<Argument>,
        attachments: &[(&str, &str)],
    ) -> Frame {
        self.try_call(method, argument, attachments).unwrap()
    }

    fn try_call(
        &mut self,
        method: &str,
        argument: impl Into<Argument>,
        attachments: &[(&str, &str)],
    ) -> io::Result<Frame> {
        self.last_id += 1;
        let id = self.last_id;
        self.try_send(&Frame::request_with(id, method, argument, attachments).bytes())?;
        let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "the proxy closed the connection");
        loop {
            let answer = self.try_receive()?.ok_or_else(closed)?;
            if answer != Frame::read_only() {
                assert_eq!(answer.id, id, "an answer to another call: {answer:?}");
                return Ok(answer);
            }
        }
    }

    /// Calls `method` with `text` and gives the name of the backend that answered.
    pub fn ask(&mut self, method: &str, text: &str) -> String {
        server_of(&self.call(method, text), text)
    }

    /// The same, where the way to the servers may not be there yet.
    ///
    /// # Errors
    ///
    /// The connection is lost, or the answer is an error.
    pub fn try_ask(&mut self, method: &str, text: &str) -> io::Result<String> {
        let answer = self.try_call(method, text, &[])?;
        match answer.message() {
            Some(message) => Err(io::Error::other(message)),
            None => Ok(server_of(&answer, text)),
        }
    }

    /// Ends its own direction of the connection.
    pub fn end_writing(&mut self) {
        self.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves by a reset.
    pub fn reset(self) {
        SockRef::from(self.reader.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Takes at most about `bytes` that it has not read into the kernel's buffer.
    pub fn limit_receive_buffer(&self, bytes: usize) {
        SockRef::from(self.reader.get_ref()).set_recv_buffer_size(bytes).unwrap();
    }
}

/// The name of the backend that gave `answer` to a call with `text`.
///
/// # Panics
///
/// When it is no answer to that text.
pub fn server_of(answer: &Frame, text: &str) -> String {
    let value = answer.text().unwrap_or_else(|| panic!("no value: {:?} {answer:?}", answer.message()));
    let (server, echo) = value.split_once(':').unwrap_or_else(|| panic!("no answer of a backend: {value}"));
    assert_eq!(echo, text, "an answer to another call");
    server.to_owned()
}
