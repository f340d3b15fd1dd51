//! The brpc codec on frames that Apache brpc and brpc-java wrote, and on what it makes of them, with the crate prost as another reader.
mod edit;
mod hostile;
mod vectors;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use meltemi_codecs::{Brpc, Change, Codec, Depth, Error, Frame, Head, Peer, Step};
use prost::Message;

/// The limit that tests give where none is tested.
const LIMIT: usize = 1 << 20;

/// `RpcMeta` of Apache brpc, and what brpc-java has in its place.
#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(message, optional, tag = "1")]
    request: Option<Request>,
    #[prost(message, optional, tag = "2")]
    response: Option<Response>,
    #[prost(int32, optional, tag = "3")]
    compress_type: Option<i32>,
    #[prost(int64, optional, tag = "4")]
    correlation_id: Option<i64>,
    #[prost(int32, optional, tag = "5")]
    attachment_size: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "7")]
    authentication_data: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    stream_settings: Option<Vec<u8>>,
    #[prost(map = "string, string", tag = "9")]
    user_fields: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, optional, tag = "1")]
    service_name: Option<String>,
    #[prost(string, optional, tag = "2")]
    method_name: Option<String>,
    #[prost(int64, optional, tag = "3")]
    log_id: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    trace_id: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    span_id: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    parent_span_id: Option<i64>,
    /// `request_id` of Apache brpc, `ext_fields` of brpc-java.
    #[prost(bytes = "vec", repeated, tag = "7")]
    seventh: Vec<Vec<u8>>,
    #[prost(int32, optional, tag = "8")]
    timeout_ms: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(int32, optional, tag = "1")]
    error_code: Option<i32>,
    #[prost(string, optional, tag = "2")]
    error_text: Option<String>,
}

/// An entry of brpc-java's `ext_fields`.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

impl Entry {
    fn encoded(key: &str, value: &str) -> Vec<u8> {
        Self { key: Some(key.to_owned()), value: Some(value.to_owned()) }.encode_to_vec()
    }
}

/// A frame of the golden vectors.
struct Vector {
    name: String,
    from: Peer,
    bytes: Vec<u8>,
}

const FOLDERS: [&str; 2] = ["apache-brpc-1.17", "brpc-java-3.0.5"];

/// Every frame there is.
fn vectors() -> Vec<Vector> {
    FOLDERS.into_iter().flat_map(vectors_of).collect()
}

/// The frames of a folder of `vectors/brpc`, in order of name.
fn vectors_of(folder: &str) -> Vec<Vector> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/brpc").join(folder);
    let mut files: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bin"));
    assert!(!files.is_empty());
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let from = if name.ends_with(".resp") { Peer::Server } else { Peer::Client };
        Vector { name, from, bytes: fs::read(file).unwrap() }
    };
    files.into_iter().map(read).collect()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

/// A frame of this meta and body.
fn written(meta: &Meta, body: &[u8]) -> Vec<u8> {
    let meta = meta.encode_to_vec();
    let mut bytes = b"PRPC".to_vec();
    bytes.extend_from_slice(&u32::try_from(meta.len() + body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(meta.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(body);
    bytes
}

/// The meta of a request of `example.EchoService.Echo`.
fn echo() -> Meta {
    let request = Request {
        service_name: Some("example.EchoService".to_owned()),
        method_name: Some("Echo".to_owned()),
        ..Request::default()
    };
    Meta { request: Some(request), correlation_id: Some(7), ..Meta::default() }
}

/// What prost reads of a frame: its meta, and what follows that.
fn read(bytes: &[u8]) -> (Meta, &[u8]) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((&bytes[..4], number(4)), (&b"PRPC"[..], bytes.len() - 12));
    let (meta, body) = bytes[12..].split_at(number(8));
    (Meta::decode(meta).unwrap(), body)
}

fn frame(from: Peer, bytes: &[u8]) -> Frame {
    match Brpc.split(from, bytes, LIMIT) {
        Ok(Step::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

fn head(bytes: &[u8], depth: Depth) -> Result<Vec<(String, String)>, Error> {
    let mut head = Head::new();
    Brpc.head(bytes, depth, &mut head)?;
    Ok(head.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Names and values as a head has them.
fn entries(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The changes that set and remove attachments.
fn changes(set: &[(&str, &str)], remove: &[&str]) -> Vec<Change> {
    let set = set.iter().map(|(name, value)| Change::set(*name, *value));
    set.chain(remove.iter().map(|name| Change::remove(*name))).collect()
}
