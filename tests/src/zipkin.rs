//! Zipkin, which takes spans and is asked about them.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use crate::DEADLINE;
use crate::java::zipkin_jar;

/// A running Zipkin, which keeps spans in memory. Ends when dropped.
#[derive(Debug)]
pub struct Zipkin {
    server: Child,
    address: SocketAddr,
}

/// What is before the port in the line of its log which says that it listens.
const LISTENS: &str = "Serving HTTP at ";

impl Zipkin {
    /// Starts one on a port that the kernel chooses.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start() -> Self {
        let jar = zipkin_jar();
        let mut server = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-jar"])
            .arg(jar)
            .env("QUERY_PORT", "0")
            .env("STORAGE_TYPE", "mem")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java, as Debian has it");
        let (sender, port) = mpsc::channel();
        let output = BufReader::new(server.stdout.take().unwrap());
        // It is read to its end, so that the server never waits for that.
        thread::spawn(move || {
            output.lines().map_while(Result::ok).filter_map(|line| port_of(&line)).for_each(|port| {
                let _ = sender.send(port);
            });
        });
        let port = port.recv_timeout(DEADLINE).ok();
        let address = (Ipv4Addr::LOCALHOST, port.unwrap_or_default()).into();
        let zipkin = Self { server, address };
        assert!(port.is_some(), "Zipkin does not say where it listens");
        zipkin
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The spans of a trace, if it has any.
    pub fn trace(&self, id: &str) -> Option<Vec<Value>> {
        let mut answer = ureq::get(format!("http://{}/api/v2/trace/{id}", self.address)).call().ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }
}

impl Drop for Zipkin {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The port in the line of the log that says where it listens.
fn port_of(line: &str) -> Option<u16> {
    let (_, listens) = line.split_once(LISTENS)?;
    let (_, port) = listens.trim_end().trim_end_matches('/').rsplit_once(':')?;
    port.parse().ok()
}
