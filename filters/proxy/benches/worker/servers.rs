//! What stands behind the connection manager: servers that answer every call, and a rate limit service that lets every call
//! pass.

use std::collections::BTreeMap;

use crate::frames::{
    DATA, END_STREAM, HEADER, HEADERS, PING, PREFACE, block, frames, put_data, put_frame, put_windows,
};

/// The streams of the connection manager.
#[derive(Default)]
pub struct Servers {
    streams: BTreeMap<u32, Stream>,
    has_identities: bool,
}

#[derive(Default)]
struct Stream {
    /// What came in a round.
    sent: Vec<u8>,
    /// Bytes that came since windows were granted.
    taken: usize,
    /// It leads to the service, by HTTP/2 of its own.
    is_service: bool,
}

impl Servers {
    pub fn new(has_identities: bool) -> Self {
        Self { has_identities, ..Self::default() }
    }

    /// Answers what the worker sent: connections are open, requests come back as responses, PINGs as acknowledgements. How
    /// many bytes of requests there were.
    pub fn answer(&mut self, sent: &[u8], out: &mut Vec<u8>) -> usize {
        for frame in frames(sent) {
            match frame.kind {
                // What loggers are told, an alarm or a report.
                HEADERS if frame.flags & END_STREAM != 0 => {
                    put_frame(out, HEADERS, 4 | END_STREAM, frame.stream, &block(&[(":status", "200")]));
                }
                HEADERS => self.accept(frame.stream, out),
                DATA => self.streams.entry(frame.stream).or_default().sent.extend_from_slice(frame.payload),
                PING if frame.flags == 0 => put_frame(out, PING, 1, 0, frame.payload),
                _ => {}
            }
        }
        let mut count = 0;
        for (id, stream) in &mut self.streams {
            stream.taken += stream.sent.len();
            stream.is_service |= stream.sent.starts_with(PREFACE);
            if stream.is_service {
                put_data(out, *id, &let_pass(&stream.sent));
            } else {
                count += stream.sent.len();
                respond(&mut stream.sent);
                put_data(out, *id, &stream.sent);
            }
            stream.sent.clear();
        }
        count
    }

    /// Every connection of a cluster is one to the same endpoint, so that the worker keeps the first.
    fn accept(&self, stream: u32, out: &mut Vec<u8>) {
        let mut fields = vec![(":status", "200"), ("x-meltemi-host", "10.0.0.1:20880")];
        if self.has_identities {
            let server = "spiffe://cluster.local/ns/demo/sa/server";
            fields.extend([
                ("x-meltemi-workload", "v1;demo;demo;v1;Kubernetes"),
                ("x-meltemi-identity", server),
            ]);
        }
        put_frame(out, HEADERS, 4, stream, &block(&fields));
    }

    /// The most bytes that came on one stream since windows were granted.
    pub fn taken(&self) -> usize {
        self.streams.values().map(|stream| stream.taken).max().unwrap_or_default()
    }

    /// What came on each stream since then, which is granted again.
    pub fn take(&mut self) -> Vec<(u32, usize)> {
        self.streams.iter_mut().map(|(id, stream)| (*id, std::mem::take(&mut stream.taken))).collect()
    }
}

/// Makes responses with status OK and a value of requests.
fn respond(calls: &mut [u8]) {
    let mut at = 0;
    while let Some(frame) = calls.get_mut(at..).filter(|frame| !frame.is_empty()) {
        frame[2..4].copy_from_slice(&[2, 20]);
        frame[HEADER] = 0x91;
        at += HEADER + u32::from_be_bytes([frame[12], frame[13], frame[14], frame[15]]) as usize;
    }
}

/// What the service says: no call is over its limit.
fn let_pass(questions: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if questions.starts_with(PREFACE) {
        put_windows(&mut out);
    }
    for frame in frames(questions) {
        match (frame.kind, frame.flags & END_STREAM) {
            (DATA, END_STREAM) => {
                let head = block(&[(":status", "200"), ("content-type", "application/grpc")]);
                put_frame(&mut out, HEADERS, 4, frame.stream, &head);
                // A message of two bytes: the overall code, field 1, is OK.
                put_frame(&mut out, DATA, 0, frame.stream, &[0, 0, 0, 0, 2, 8, 1]);
                let trailers = block(&[("grpc-status", "0")]);
                put_frame(&mut out, HEADERS, 4 | END_STREAM, frame.stream, &trailers);
            }
            (PING, 0) => put_frame(&mut out, PING, 1, 0, frame.payload),
            _ => {}
        }
    }
    out
}
