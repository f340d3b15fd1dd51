//! The RPC protocols that clients and servers of a simulation speak, written anew for it.

use std::rc::Rc;

use meltemi_codecs::Codec;

/// One frame, in terms that all protocols share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Response(Response),
    /// A sign of life that wants an answer.
    Heartbeat {
        id: u64,
    },
    HeartbeatAnswer {
        id: u64,
    },
    /// The server asks for no new calls.
    ReadOnly,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    pub id: u64,
    pub is_two_way: bool,
    pub method: String,
    pub attachments: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    pub id: u64,
    /// The protocol's status where the framework failed; the payload is its message then.
    pub error: Option<u32>,
    pub attachments: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

/// A protocol, both ways.
pub trait Wire {
    /// What the worker is given for it.
    fn codec(&self) -> Rc<dyn Codec>;

    /// Whether servers answer a connection's requests in their order.
    fn is_in_order(&self) -> bool {
        false
    }

    /// Appends a frame.
    fn put(&self, message: &Message, out: &mut Vec<u8>);

    /// The frame at the front of the input and its length, if it is complete.
    ///
    /// # Panics
    ///
    /// It is none: the worker wrote what it must not.
    fn take(&self, input: &[u8]) -> Option<(usize, Message)>;

    /// A frame as bytes.
    fn bytes(&self, message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(message, &mut out);
        out
    }
}

/// Takes `N` bytes off the front.
pub fn array<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    let (head, rest) = input.split_first_chunk().expect("enough bytes");
    *input = rest;
    *head
}
