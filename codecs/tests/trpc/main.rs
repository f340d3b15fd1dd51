//! The tRPC codec on frames that trpc-go and trpc-java wrote, and on what it makes of them, with the crate prost as another reader.
mod edit;
mod hostile;
mod vectors;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use meltemi_codecs::{Change, Codec, Depth, Error, Frame, Head, Peer, Step, Trpc};
use prost::Message;

/// The limit that tests give where none is tested.
const LIMIT: usize = 1 << 20;

/// `RequestProtocol`.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(uint32, tag = "2")]
    call_type: u32,
    #[prost(uint32, tag = "3")]
    request_id: u32,
    #[prost(uint32, tag = "4")]
    timeout: u32,
    #[prost(bytes = "vec", tag = "5")]
    caller: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    callee: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    func: Vec<u8>,
    #[prost(uint32, tag = "8")]
    message_type: u32,
    #[prost(map = "string, bytes", tag = "9")]
    trans_info: HashMap<String, Vec<u8>>,
    #[prost(uint32, tag = "10")]
    content_type: u32,
    #[prost(uint32, tag = "12")]
    attachment_size: u32,
}

/// `ResponseProtocol`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(uint32, tag = "2")]
    call_type: u32,
    #[prost(uint32, tag = "3")]
    request_id: u32,
    #[prost(int32, tag = "4")]
    ret: i32,
    #[prost(int32, tag = "5")]
    func_ret: i32,
    #[prost(bytes = "vec", tag = "6")]
    error_msg: Vec<u8>,
    #[prost(uint32, tag = "7")]
    message_type: u32,
    #[prost(map = "string, bytes", tag = "8")]
    trans_info: HashMap<String, Vec<u8>>,
    #[prost(uint32, tag = "9")]
    content_type: u32,
}

/// `TrpcStreamInitMeta`.
#[derive(Clone, PartialEq, Message)]
struct Init {
    #[prost(message, optional, tag = "1")]
    request: Option<InitRequest>,
    #[prost(message, optional, tag = "2")]
    response: Option<InitResponse>,
    #[prost(uint32, tag = "3")]
    window: u32,
}

#[derive(Clone, PartialEq, Message)]
struct InitRequest {
    #[prost(bytes = "vec", tag = "1")]
    caller: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    callee: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    func: Vec<u8>,
    #[prost(uint32, tag = "4")]
    message_type: u32,
    #[prost(map = "string, bytes", tag = "5")]
    trans_info: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct InitResponse {
    #[prost(int32, tag = "1")]
    ret: i32,
    #[prost(bytes = "vec", tag = "2")]
    error_msg: Vec<u8>,
}

/// `TrpcStreamCloseMeta`.
#[derive(Clone, PartialEq, Message)]
struct Close {
    #[prost(int32, tag = "1")]
    close_type: i32,
    #[prost(int32, tag = "2")]
    ret: i32,
    #[prost(bytes = "vec", tag = "3")]
    msg: Vec<u8>,
    #[prost(int32, tag = "6")]
    func_ret: i32,
}

/// A frame of the golden vectors.
struct Vector {
    name: String,
    from: Peer,
    bytes: Vec<u8>,
}

/// The frames of a folder of `vectors/trpc`, in order of name.
fn vectors(folder: &str) -> Vec<Vector> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/trpc").join(folder);
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

const FOLDERS: [&str; 4] =
    ["trpc-go-1.0.3", "trpc-go-1.0.3-streams", "trpc-java-1.1.0", "from-official-proto"];

/// Every frame there is.
fn all_vectors() -> impl Iterator<Item = Vector> {
    FOLDERS.into_iter().flat_map(vectors)
}

fn vector(name: &str) -> Vector {
    all_vectors().find(|vector| vector.name == name).unwrap()
}

/// A frame of these types, ids and message, and what follows.
fn written(types: [u8; 2], id: u32, message: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x09, 0x30, types[0], types[1]];
    bytes.extend_from_slice(&u32::try_from(16 + message.len() + rest.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(rest);
    bytes
}

fn unary(message: &impl Message, id: u32, rest: &[u8]) -> Vec<u8> {
    written([0, 0], id, &message.encode_to_vec(), rest)
}

/// What a header says: id and lengths, which are as they should be, and the message and the rest.
fn read(bytes: &[u8]) -> (u32, &[u8], &[u8]) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((&bytes[..2], number(4) as usize), (&[9, 0x30][..], bytes.len()));
    let message = usize::from(u16::from_be_bytes([bytes[8], bytes[9]]));
    let (message, rest) = bytes[16..].split_at(message);
    (number(10), message, rest)
}

/// A request for `/trpc.helloworld.Greeter/Hello`.
fn hello() -> Request {
    let func = b"/trpc.helloworld.Greeter/Hello".to_vec();
    Request {
        request_id: 7,
        caller: b"trpc.a.b.c".to_vec(),
        callee: b"trpc.d.e.f".to_vec(),
        func,
        ..Request::default()
    }
}

fn frame(from: Peer, bytes: &[u8]) -> Frame {
    match Trpc.split(from, bytes, LIMIT) {
        Ok(Step::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

fn head(bytes: &[u8], depth: Depth) -> Result<Vec<(String, String)>, Error> {
    let mut head = Head::new();
    Trpc.head(bytes, depth, &mut head)?;
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
