use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use meltemi_codecs::dubbo::message::{self, Answer, Value};
use meltemi_codecs::{Codec, Dubbo, Kind, Peer, Step};

use super::SERVED_BY;

/// The longest request it takes.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// A Dubbo server that greets whomever the first argument names, whatever the method, and names itself in the response
/// attachment [`SERVED_BY`]. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    /// Takes no more connections.
    dead: AtomicBool,
    /// It takes calls and answers none once it has answered so many.
    hangs_at: AtomicU64,
    answered: AtomicU64,
    swallowed: AtomicU64,
    /// Those that are open, by a number of their own.
    connections: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Starts a server that calls itself `name` on `port` of this machine; on a free one if another program holds that.
    ///
    /// # Errors
    ///
    /// The system gives no port or no thread.
    pub fn start(name: &str, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        Self::serve(name, listener)
    }

    /// Starts a server that calls itself `name` on `address`, and on no other.
    ///
    /// # Errors
    ///
    /// The address is taken or not this machine's, or the system gives no thread.
    pub fn listen(name: &str, address: SocketAddr) -> io::Result<Self> {
        Self::serve(name, TcpListener::bind(address)?)
    }

    fn serve(name: &str, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            dead: AtomicBool::new(false),
            hangs_at: AtomicU64::new(u64::MAX),
            answered: AtomicU64::new(0),
            swallowed: AtomicU64::new(0),
            connections: Mutex::default(),
        });
        let acceptor = thread::Builder::new().name(format!("server {name}")).spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        })?;
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it accepts connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many calls it has answered.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// From now on takes calls and answers none, as a server does that is about to die.
    pub fn hang(&self) {
        self.hang_after(0);
    }

    /// Does so once it has answered so many more calls.
    pub fn hang_after(&self, calls: u64) {
        self.shared.hangs_at.store(self.answered().saturating_add(calls), Ordering::Relaxed);
    }

    /// How many calls it has taken since it [hangs](Self::hang).
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }

    /// Kills it: every connection is closed, with whatever calls it was to answer, and no new one is accepted.
    pub fn kill(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.dead.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which then sees that it is dead.
        drop(TcpStream::connect(self.address));
        // A panic of the acceptor has been reported already.
        let _ = acceptor.join();
        for (_, connection) in self.shared.connections().drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Starts it again where it was, after it was [killed](Self::kill).
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn revive(&mut self) -> io::Result<()> {
        self.kill();
        *self = Self::listen(&self.shared.name, self.address)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.dead.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        shared.connections().insert(number, handle);
        let shared = shared.clone();
        thread::spawn(move || {
            // A connection that ends with an error is over, and its peer knows.
            let _ = serve(stream, &shared);
            shared.connections().remove(&number);
        });
    }
}

impl Shared {
    fn is_hung(&self) -> bool {
        self.answered.load(Ordering::Relaxed) >= self.hangs_at.load(Ordering::Relaxed)
    }
}

/// Answers what comes on one connection until it ends.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut output = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let mut start = 0;
        while let Step::Frame(frame) = Dubbo
            .split(Peer::Client, input.get(start..).unwrap_or_default(), MAX_FRAME_BYTES)
            .map_err(io::Error::other)?
        {
            let bytes = input.get(start..start + frame.len).unwrap_or_default();
            match frame.kind {
                Kind::Request if shared.is_hung() => {
                    shared.swallowed.fetch_add(1, Ordering::Relaxed);
                }
                Kind::Request => {
                    let greeting = greeting(bytes, &shared.name);
                    let answer = Answer::Value(Value::from(&*greeting));
                    match message::read_version(bytes) {
                        Ok(Some(version)) if takes_attachments(&version) => {
                            answer.write(frame.id, &[(SERVED_BY, &shared.name)], &mut output);
                        }
                        _ => answer.write_without_attachments(frame.id, &mut output),
                    }
                    shared.answered.fetch_add(1, Ordering::Relaxed);
                }
                Kind::HeartbeatRequest => Dubbo.heartbeat_reply(bytes, &mut output),
                _ => {}
            }
            start += frame.len;
        }
        input.drain(..start);
        stream.write_all(&output)?;
        output.clear();
    }
}

/// Whether a client that says this version reads attachments of responses, by the rule of Java's servers. Versions from 2.1.0
/// to 2.6.2 were those of the library, as were dubbox's 2.8: neither means that it does.
fn takes_attachments(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    let number = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..end).and_then(|digits| digits.parse::<u64>().ok())
    };
    let whole = parts.iter().try_fold(0_u64, |sum, part| sum.checked_mul(100)?.checked_add(number(part)?));
    let whole = whole.map(|whole| if parts.len() == 3 { whole.saturating_mul(100) } else { whole });
    whole.is_some_and(|whole| {
        whole >= 2_000_200
            && !(2_001_000..=2_060_200).contains(&whole)
            && !(2_080_000..2_090_000).contains(&whole)
    })
}

fn greeting(request: &[u8], server: &str) -> String {
    let arguments = message::read_arguments(request).unwrap_or_default();
    match arguments.first() {
        Some(Value::Text(name)) => format!("Hello {name}, this is {server}"),
        _ => format!("Hello, this is {server}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_are_for_those_who_read_them() {
        for version in ["2.0.2", "2.0.3", "2.6.3", "2.7.23", "2.7.0-SNAPSHOT", "3.3.5", "2.6.5.1"] {
            assert!(takes_attachments(version), "{version}");
        }
        for version in
            ["", "1.0.0", "2.0.0", "2.0.1", "2.0.10", "2.5.3", "2.6.2", "2.8.4", "two", "2..3", "2.7"]
        {
            assert!(!takes_attachments(version), "{version}");
        }
    }
}
