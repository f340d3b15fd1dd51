//! Redis servers of Debian, and a client that speaks to them and to proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use meltemi_tests::java::free_address;
use meltemi_tests::{DEADLINE, eventually, files};
use tempfile::TempDir;

/// A running redis-server. Ends when dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts a server with these arguments more.
    pub fn start(arguments: &[&str]) -> Self {
        // Ports are only free until another takes them, and redis-server cannot choose its own.
        eventually("redis-server has a port", || Self::try_start(arguments.iter().copied()))
    }

    /// Starts a server that is to be a node of a Redis cluster.
    pub fn start_node() -> Self {
        eventually("redis-server has both ports", || {
            let port = free_port().to_string();
            Self::try_start(["--cluster-enabled", "yes", "--cluster-port", &port].into_iter())
        })
    }

    fn try_start<'a>(arguments: impl Iterator<Item = &'a str>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, as Debian has it");
        let is_up = eventually("redis-server listens", || match process.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect(address).is_ok().then_some(true),
        });
        is_up.then_some(Self { process, address, _folder: folder })
    }

    /// A connection past all proxies.
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// How often the server executed a command.
    pub fn count(&self, command: &str) -> u64 {
        let Reply::Text(text) = self.client().call(&["INFO", "commandstats"]) else { return 0 };
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a Redis cluster of nodes: the first three are masters, and each other one is a replica.
pub fn join(nodes: &[Server]) {
    let addresses = nodes.iter().map(|node| node.address.to_string());
    let replicas = (nodes.len() / 3 - 1).to_string();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(addresses);
    files::run(create.args(["--cluster-replicas", &replicas, "--cluster-yes"]));
    for node in nodes {
        eventually("the nodes know of each other", || {
            let Reply::Text(info) = node.client().call(&["CLUSTER", "INFO"]) else { return None };
            let Reply::Text(known) = node.client().call(&["CLUSTER", "NODES"]) else { return None };
            let replicas = known.lines().filter(|line| line.contains("slave")).count();
            (info.contains("cluster_state:ok") && replicas == nodes.len() - 3).then_some(())
        });
    }
}

fn free_port() -> u16 {
    free_address().port()
}

/// A connection that speaks RESP 2.
pub struct Client(BufReader<TcpStream>);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Number(i64),
    Nil,
    Error(String),
    List(Vec<Reply>),
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a command and reads its answer.
    pub fn call(&mut self, command: &[&str]) -> Reply {
        self.send(command);
        self.reply()
    }

    /// Sends a command.
    pub fn send(&mut self, command: &[&str]) {
        let mut bytes = format!("*{}\r\n", command.len());
        for word in command {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// Reads an answer, or what the server says by itself.
    pub fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at_checked(1).expect("an answer, not the end");
        match kind {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Number(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8(bytes).unwrap())
            }
            "*" => Reply::List((0..rest.parse().unwrap()).map(|_| self.reply()).collect()),
            _ => panic!("no RESP 2: {line:?}"),
        }
    }

    /// Sets a key.
    #[track_caller]
    pub fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.call(&["SET", key, value]), text("OK"), "{key}");
    }

    pub fn get(&mut self, key: &str) -> Reply {
        self.call(&["GET", key])
    }
}

pub fn text(text: &str) -> Reply {
    Reply::Text(text.to_owned())
}
