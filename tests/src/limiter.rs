//! The reference server of Envoy's rate limit service, which counts in Redis.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::java::free_address;
use crate::{eventually, go};

/// A running server with its Redis. Both end when dropped.
#[derive(Debug)]
pub struct Limiter {
    server: Child,
    redis: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// Its log, in its folder.
const LOG: &str = "ratelimit.log";

impl Limiter {
    /// Builds its program, if that has not been done: to be called before a network is entered that leads nowhere.
    ///
    /// # Panics
    ///
    /// When it cannot be built.
    pub fn build() {
        go::program("ratelimit");
    }

    /// Starts one that counts by these `limits`, its own configuration in YAML, and listens on an address; on a free port if
    /// the address has none.
    ///
    /// # Panics
    ///
    /// When either does not start.
    pub fn start(limits: &str, address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("redis.sock");
        let redis = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, as Debian has it");
        eventually("Redis listens", || socket.exists().then_some(()));
        let configuration = folder.path().join("ratelimit/config");
        fs::create_dir_all(&configuration).unwrap();
        fs::write(configuration.join("limits.yaml"), limits).unwrap();
        // Ports are only free until another takes them, and the server cannot choose its own.
        let (server, address) = eventually("the rate limit service has ports", || {
            let [free, http, debug] = [(); 3].map(|()| free_address().port());
            let address = if address.port() == 0 { SocketAddr::new(address.ip(), free) } else { address };
            let log = File::create(folder.path().join(LOG)).unwrap();
            let mut server = Command::new(go::program("ratelimit"))
                .env("RUNTIME_ROOT", folder.path())
                .env("RUNTIME_SUBDIRECTORY", "ratelimit")
                .env("RUNTIME_WATCH_ROOT", "false")
                .env("REDIS_SOCKET_TYPE", "unix")
                .env("REDIS_URL", &socket)
                .env("USE_STATSD", "false")
                .env("LOG_LEVEL", "debug")
                .env("GRPC_PORT", address.port().to_string())
                .env("PORT", http.to_string())
                .env("DEBUG_PORT", debug.to_string())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let is_up = eventually("the rate limit service listens", || match server.try_wait().unwrap() {
                Some(_) => Some(false),
                None => TcpStream::connect(address).is_ok().then_some(true),
            });
            is_up.then_some((server, address))
        });
        Self { server, redis, address, folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The errors that the server says it answered with: its connections to Redis may fail it.
    pub fn errors(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap();
        log.lines().filter(|line| line.contains("caught error during call")).map(str::to_owned).collect()
    }

    /// Ends the server.
    pub fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.stop();
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}
