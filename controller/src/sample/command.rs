//! `meltemi sample`: a server or a client on its own.

use std::io;
use std::net::SocketAddr;
use std::process;
use std::thread;

use clap::{Args, Subcommand};

use super::load::{Load, Outcomes};
use super::{INTERFACE, Server};
use crate::screen;

/// What the command line asks of the samples.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serve the interface org.meltemi.demo.Greeter over Dubbo, until it is stopped.
    ///
    /// Every method greets whomever its first argument names, and says in the response attachment `served-by` which version
    /// did.
    Server {
        /// What the server calls itself.
        #[arg(long, default_value = "v1")]
        version: String,
        /// The address to accept connections on.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:20881")]
        listen: SocketAddr,
    },
    /// Call org.meltemi.demo.Greeter over Dubbo, and print every second who answered.
    Client(Calls),
}

#[derive(Debug, Args)]
struct Calls {
    /// Where to: a name or an address, and the port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:20880")]
    address: String,
    /// How many calls to make in a second, in all.
    #[arg(long, value_name = "CALLS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// On how many connections.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    connections: u32,
    /// Stop after so many calls, and fail if one of them did. Default: go on until stopped.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// A method to call; several are called in turn.
    #[arg(long = "method", value_name = "NAME", default_value = "sayHello")]
    methods: Vec<String>,
    /// An attachment of each request.
    #[arg(long = "attachment", value_name = "NAME=VALUE", value_parser = attachment)]
    attachments: Vec<(String, String)>,
}

/// Why a sample ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server cannot accept connections.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// Where it should have.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A signal's handler or a thread could not be had.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// Calls failed.
    #[error("{failed} of {calls} calls failed")]
    Failed {
        /// How many did.
        failed: u64,
        /// How many were made.
        calls: u64,
    },
}

/// Runs a sample.
///
/// # Errors
///
/// It cannot start; or it was to make a number of calls, and one failed.
pub fn run(options: &Options) -> Result<(), Error> {
    // The first process of a container is not ended by these signals unless it says so.
    ctrlc::set_handler(|| process::exit(0)).map_err(|error| Error::Start(io::Error::other(error)))?;
    match &options.role {
        Role::Server { version, listen } => serve(version, *listen),
        Role::Client(calls) => call(calls),
    }
}

fn serve(version: &str, listen: SocketAddr) -> Result<(), Error> {
    let server =
        Server::listen(version, listen).map_err(|source| Error::Listen { address: listen, source })?;
    screen::say(format_args!("{version} serves {INTERFACE} on {}", server.address()));
    loop {
        thread::park();
    }
}

fn call(calls: &Calls) -> Result<(), Error> {
    let load = Load {
        address: calls.address.clone(),
        rate: calls.rate,
        connections: calls.connections,
        calls: calls.calls,
        methods: calls.methods.clone(),
        attachments: calls.attachments.clone(),
    };
    let mut total = Outcomes::default();
    load.run(|outcomes| {
        screen::say(&outcomes);
        total.add(&outcomes);
    })
    .map_err(Error::Start)?;
    match total.failed() {
        0 => Ok(()),
        failed => Err(Error::Failed { failed, calls: total.calls() }),
    }
}

fn attachment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}
