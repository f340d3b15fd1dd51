//! What the tRPC codec costs:
//!
//!     cargo bench -p meltemi-codecs --bench trpc
mod harness;

use std::error::Error;
use std::fs;

use harness::{Case, error_reply, head, rewrite, split};
use meltemi_codecs::{Depth, Peer, Trpc};

fn main() -> Result<(), Box<dyn Error>> {
    harness::run("trpc", cases)
}

fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/trpc");
    let vector = |name: &str| fs::read(format!("{folder}/{name}.bin"));
    // 123 bytes, of which 100 are the message: three names and an entry.
    let request = vector("trpc-go-1.0.3/conn-id2.req")?;
    let response = vector("trpc-go-1.0.3/conn-id2.resp")?;
    let large = vector("trpc-go-1.0.3/conn1-id9.req")?;
    let opening = vector("from-official-proto/stream-init.req")?;
    let data = vector("from-official-proto/stream-data.req")?;
    Ok(vec![
        ("split, request of 123 bytes", split(Trpc, Peer::Client, request.clone())),
        ("split, response", split(Trpc, Peer::Server, response)),
        ("split and head, 123 bytes", head(Trpc, Depth::Head, request.clone())),
        ("split and head, 123 bytes, entries", head(Trpc, Depth::Attachments, request.clone())),
        ("split and head, opening of a stream", head(Trpc, Depth::Attachments, opening)),
        ("split, a stream's data", split(Trpc, Peer::Client, data.clone())),
        ("rewrite the id, 123 bytes", rewrite(Trpc, &[], request.clone())),
        ("rewrite the id, 70 kB", rewrite(Trpc, &[], large)),
        ("rewrite the id, a stream's data", rewrite(Trpc, &[], data)),
        ("rewrite an entry, 123 bytes", rewrite(Trpc, &[("x-lane", "blue")], request.clone())),
        ("error reply", error_reply(Trpc, request)),
    ])
}
