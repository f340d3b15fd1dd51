//! `meltemi learn`: a layout for a protocol that nobody described, from what both sides of real connections sent.
//!
//! Step by step: where frames end, the id that answers repeat, what tells kinds of frames apart, the parts that follow the
//! header, and what in them looks like a service and a method. What is proposed has been compiled, and splits the bytes that
//! it was learnt from.

mod find;
mod form;
mod frames;
mod framing;
mod heard;
mod id;
mod kind;
mod name;
mod part;
mod propose;
mod prove;
mod write;

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::SocketAddr;

use crate::capture::{self, Connections};
use heard::{Ear, Heard, MOST_BYTES, MOST_CONNECTIONS, MOST_OF_A_SIDE, Talk};

/// What is wanted.
#[derive(Debug, Default, Clone)]
pub struct Wish {
    /// The server to learn from, by its port or by its address and port. Default: the one that said and heard the most.
    pub server: Option<String>,
    /// The name of the ApplicationProtocol to write; without it, the layout alone is.
    pub protocol: Option<String>,
}

/// Why nothing was learnt, or not from all of a capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The capture is broken, or not whole.
    #[error(transparent)]
    Capture(#[from] capture::Error),
    /// It is no capture.
    #[error(
        "offset 0: this is no capture of packets; both sides of connections are needed, as tcpdump writes them"
    )]
    NoCapture,
    /// It does not tell enough.
    #[error("{0}")]
    Unclear(String),
}

/// Proposes a layout as YAML, with the reason for each field in a comment. How much of a capture is looked at is bounded, and
/// said if it is not all.
///
/// # Errors
///
/// Nothing was learnt, or the capture is cut: then what was learnt from what came before comes with it.
pub fn learn(mut input: impl Read, wish: &Wish) -> (Option<String>, Option<Error>) {
    let mut start = Vec::new();
    if let Err(error) = input.by_ref().take(4).read_to_end(&mut start) {
        return (None, Some(capture::Error::Read(error).into()));
    }
    if !capture::is_capture(&start) {
        return (None, Some(Error::NoCapture));
    }
    let heard = RefCell::new(Heard::default());
    let connections = Connections::new(|pair, has_start| Ear::new(&heard, pair, has_start));
    let (_, outcome) = connections.read(start, &mut io::BufReader::new(input));
    match (said(&heard.into_inner(), wish), outcome) {
        (Ok(text), outcome) => (Some(text), outcome.err().map(Error::Capture)),
        (Err(_), Err(error)) => (None, Some(error.into())),
        (Err(why), Ok(())) => (None, Some(Error::Unclear(why))),
    }
}

fn said(heard: &Heard, wish: &Wish) -> Result<String, String> {
    let (server, talks) = choose(heard, wish)?;
    let two_way: Vec<&Talk> = talks.iter().filter(|talk| talk.is_two_way()).collect();
    known(server, &two_way)?;
    let others: Vec<String> = heard
        .servers
        .iter()
        .filter(|(other, talks)| **other != server && talks.iter().any(Talk::is_two_way))
        .map(|(other, _)| other.to_string())
        .collect();
    let said = heard.said.get(&server).copied().unwrap_or_default();
    let kept: usize = talks.iter().map(Talk::len).sum();
    let part = |looked_at: usize| {
        format!(
            "looked at {looked_at} of {} bytes on {} of {} connections: at most {} MiB of each side of a connection, and {} MiB, \
             {MOST_CONNECTIONS} connections and {} frames of a capture",
            said.bytes,
            talks.len(),
            said.connections,
            MOST_OF_A_SIDE >> 20,
            MOST_BYTES >> 20,
            frames::MOST
        )
    };
    let is_part = said.bytes > kept as u64;
    let proposal = propose::propose(&two_way).map_err(|why| match is_part {
        true => format!("server {server}: {why}; {}", part(kept)),
        false => format!("server {server}: {why}"),
    })?;
    let part = (is_part || proposal.frames >= frames::MOST).then(|| part(kept.min(proposal.bytes)));
    Ok(proposal.yaml(server, said.connections, part.as_deref(), &others, wish.protocol.as_deref()))
}

/// The server to learn from, and its connections.
fn choose<'h>(heard: &'h Heard, wish: &Wish) -> Result<(SocketAddr, &'h [Talk]), String> {
    let is_wanted = |server: &SocketAddr| {
        let Some(wanted) = &wish.server else { return true };
        *wanted == server.to_string() || *wanted == server.port().to_string()
    };
    let known = || {
        let servers: Vec<String> = heard.servers.keys().map(ToString::to_string).collect();
        match servers.len() {
            0 => "the capture has no TCP connection that sends anything".to_owned(),
            _ => format!("the capture has connections to {}", servers.join(", ")),
        }
    };
    let of = |talks: &[Talk]| -> usize { talks.iter().filter(|talk| talk.is_two_way()).map(Talk::len).sum() };
    let wanted = || heard.servers.iter().filter(|(server, _)| is_wanted(server));
    if wanted().next().is_none() {
        return Err(match &wish.server {
            Some(server) => format!("no connection to {server}: {}", known()),
            None => known(),
        });
    }
    // Of equals, the first.
    let best = wanted()
        .filter(|(_, talks)| of(talks) > 0)
        .max_by_key(|(server, talks)| (of(talks), core::cmp::Reverse(**server)));
    let none =
        || "no connection was captured both ways: what answers repeat cannot be seen of one side".to_owned();
    best.map(|(server, talks)| (*server, &**talks)).ok_or_else(none)
}

/// Refuses what is known to be no protocol of one's own.
fn known(server: SocketAddr, talks: &[&Talk]) -> Result<(), String> {
    let starts = |with: &dyn Fn(&[u8]) -> bool| talks.iter().all(|talk| with(&talk.client.bytes));
    if starts(&|bytes| matches!(bytes, [0x14..=0x17, 3, 0..=4, ..])) {
        return Err(format!(
            "server {server}: the connections are encrypted by TLS, of which nothing can be learnt; capture where they are \
             plain, such as between an application and its sidecar"
        ));
    }
    let methods: [&[u8]; 7] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS "];
    if starts(&|bytes| {
        bytes.starts_with(b"PRI * HTTP/2.0") || methods.iter().any(|method| bytes.starts_with(method))
    }) {
        return Err(format!("server {server}: this is HTTP, which Envoy manages without a layout"));
    }
    Ok(())
}
