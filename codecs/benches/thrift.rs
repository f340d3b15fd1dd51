//! What the Thrift codec costs:
//!
//!     cargo bench -p meltemi-codecs --bench thrift
mod harness;

use std::error::Error;
use std::fs;

use harness::{Case, error_reply, head, rewrite, split};
use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_codecs::{Depth, Peer, Thrift};

fn main() -> Result<(), Box<dyn Error>> {
    harness::run("thrift", cases)
}

fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let vector = |path: &str| fs::read(format!("{}/vectors/thrift/{path}.bin", env!("CARGO_MANIFEST_DIR")));
    // 37 bytes: one short string.
    let binary = vector("python-0.25.0/framed-binary.00-sayHello.req")?;
    let compact = vector("python-0.25.0/framed-compact.00-sayHello.req")?;
    // 103 bytes: a struct of every kind.
    let nested = vector("python-0.25.0/framed-binary.02-echoUser.req")?;
    let response = vector("python-0.25.0/framed-binary.00-sayHello.resp")?;
    let header = vector("python-0.25.0/header-binary.00-sayHello.req")?;
    let zlib = vector("python-0.25.0/header-binary-zlib.00-sayHello.req")?;
    let kitex = vector("kitex-0.15.4/ttheader-ints.00-sayHello.req")?;
    let argument = "x".repeat(16 * 1024);
    let content = Content::Call(argument.as_bytes().into());
    let mut large = Vec::new();
    Message::new(Transport::Framed, Protocol::Binary, 1, "echo", content).write(&mut large)?;
    let unframed = binary.get(4..).unwrap_or_default().to_vec();
    let lane = [("x-lane", "blue")];
    Ok(vec![
        ("split, framed binary, 37 bytes", split(Thrift, Peer::Client, binary.clone())),
        ("split, framed binary, response", split(Thrift, Peer::Server, response)),
        ("split, framed binary, 16 KiB", split(Thrift, Peer::Client, large.clone())),
        ("split, framed binary, 103 bytes of structs", split(Thrift, Peer::Client, nested)),
        ("split, framed compact, 24 bytes", split(Thrift, Peer::Client, compact.clone())),
        ("split, unframed binary, 33 bytes", split(Thrift, Peer::Client, unframed)),
        ("split, THeader with zlib, 70 bytes", split(Thrift, Peer::Client, zlib)),
        ("split and head, framed binary", head(Thrift, Depth::Head, binary.clone())),
        ("split and head, THeader, headers", head(Thrift, Depth::Attachments, header.clone())),
        ("split and head, TTHeader, 5 headers", head(Thrift, Depth::Attachments, kitex.clone())),
        ("rewrite the id, framed binary", rewrite(Thrift, &[], binary.clone())),
        ("rewrite the id, framed compact", rewrite(Thrift, &[], compact)),
        ("rewrite the id, 16 KiB", rewrite(Thrift, &[], large)),
        ("rewrite a header, THeader", rewrite(Thrift, &lane, header)),
        ("rewrite a header, TTHeader", rewrite(Thrift, &lane, kitex)),
        ("error reply, framed binary", error_reply(Thrift, binary)),
    ])
}
