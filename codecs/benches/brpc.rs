//! What the brpc codec costs:
//!
//!     cargo bench -p meltemi-codecs --bench brpc
mod harness;

use std::error::Error;
use std::fs;

use harness::{Case, error_reply, head, rewrite, split};
use meltemi_codecs::{Brpc, Change, Codec, Depth, Edit, Peer};

fn main() -> Result<(), Box<dyn Error>> {
    harness::run("brpc", cases)
}

fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/brpc/apache-brpc-1.17");
    let vector = |name: &str| fs::read(format!("{folder}/{name}.bin"));
    // 64 bytes, of which 45 are the meta.
    let request = vector("00-echo.req")?;
    let response = vector("00-echo.resp")?;
    let large = vector("05-big.req")?;
    let changes = [Change::set("x-lane", "gray")];
    let mut with_fields = Vec::new();
    Brpc.rewrite(&request, &Edit { changes: &changes, ..Edit::default() }, &mut with_fields)?;
    Ok(vec![
        ("split, request of 64 bytes", split(Brpc, Peer::Client, request.clone())),
        ("split, response", split(Brpc, Peer::Server, response)),
        ("split and head, 64 bytes", head(Brpc, Depth::Head, request.clone())),
        ("split and head, user fields", head(Brpc, Depth::Attachments, with_fields.clone())),
        ("rewrite the id, 64 bytes", rewrite(Brpc, &[], request.clone())),
        ("rewrite the id, 70 kB", rewrite(Brpc, &[], large)),
        ("rewrite a user field", rewrite(Brpc, &[("x-lane", "blue")], with_fields)),
        ("error reply", error_reply(Brpc, request)),
    ])
}
