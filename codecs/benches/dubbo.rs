//! What the Dubbo codec costs:
//!
//!     cargo bench -p meltemi-codecs --bench dubbo
mod harness;

use std::error::Error;
use std::fs;

use harness::{Case, error_reply, head, rewrite, split};
use meltemi_codecs::dubbo::message::{Answer, Request};
use meltemi_codecs::{Depth, Dubbo, Peer};

fn main() -> Result<(), Box<dyn Error>> {
    harness::run("dubbo", cases)
}

fn cases() -> Result<Vec<Case>, Box<dyn Error>> {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/dubbo");
    // 218 bytes: one short string argument, six attachments.
    let request = fs::read(format!("{vectors}/java-2.7.23/main-sayHello.c2s.id11.req.bin"))?;
    let objects = fs::read(format!("{vectors}/hessian-4.0.66/objects-shared.bin"))?;
    let fastjson2 =
        fs::read(format!("{vectors}/java-3.3.5/fastjson2-sayHello.c2s.id6967182592993628463.req.bin"))?;
    let mut large = Vec::new();
    let argument = "x".repeat(16 * 1024);
    let service = Request { interface: "org.example.DemoService", method: "echo", ..Request::default() };
    Request { arguments: &[argument.as_str().into()], ..service }.write(&mut large);
    let mut response = Vec::new();
    Answer::Value("Hello envoy".into()).write(1, &[("dubbo", "2.0.2")], &mut response);

    Ok(vec![
        ("split, request of 218 bytes", split(Dubbo, Peer::Client, request.clone())),
        ("split, response", split(Dubbo, Peer::Server, response.clone())),
        ("split and head, 218 bytes", head(Dubbo, Depth::Head, request.clone())),
        ("split and head, 218 bytes, attachments", head(Dubbo, Depth::Attachments, request.clone())),
        ("split and head, 366 bytes of objects", head(Dubbo, Depth::Attachments, objects)),
        ("split and head, 16 KiB, attachments", head(Dubbo, Depth::Attachments, large.clone())),
        ("split and head, fastjson2, attachments", head(Dubbo, Depth::Attachments, fastjson2)),
        ("rewrite the id, 218 bytes", rewrite(Dubbo, &[], request.clone())),
        ("rewrite the id, 16 KiB", rewrite(Dubbo, &[], large)),
        ("rewrite an attachment, 218 bytes", rewrite(Dubbo, &[("x-lane", "blue")], request.clone())),
        ("error reply", error_reply(Dubbo, request)),
    ])
}
