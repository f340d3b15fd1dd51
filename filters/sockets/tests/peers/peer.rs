//! The two peers: an HTTP/2 client in tcp_proxy's place, an HTTP/2 server in the connection manager's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};

use crate::world::World;

pub type Client = Rc<RefCell<Option<SendRequest<Bytes>>>>;
pub type Arrived = (Request<RecvStream>, SendResponse<Bytes>);
/// Streams that reached the server, in order.
pub type Server = Rc<RefCell<VecDeque<Arrived>>>;

/// Starts a client on the downstream side; it is there after [`World::run`].
pub fn client(world: &mut World, builder: &h2::client::Builder) -> Client {
    let client = Client::default();
    let (slot, wire, builder) = (Rc::clone(&client), world.downstream.clone(), builder.clone());
    world.spawn(async move {
        let (send, connection) = builder.handshake(wire).await.unwrap();
        *slot.borrow_mut() = Some(send);
        connection.await.unwrap();
    });
    client
}

/// Starts a server on the upstream side.
pub fn server(world: &mut World, builder: &h2::server::Builder) -> Server {
    let server = Server::default();
    let (queue, wire, builder) = (Rc::clone(&server), world.upstream.clone(), builder.clone());
    world.spawn(async move {
        let mut connection = builder.handshake(wire).await.unwrap();
        while let Some(arrived) = connection.accept().await {
            queue.borrow_mut().push_back(arrived.unwrap());
        }
    });
    server
}

/// The next stream that reaches a server.
pub fn arrival(server: &Server) -> impl Future<Output = Arrived> + 'static {
    let server = Rc::clone(server);
    poll_fn(move |_| match server.borrow_mut().pop_front() {
        Some(arrived) => Poll::Ready(arrived),
        None => Poll::Pending,
    })
}

pub fn connect(authority: &str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(authority)
        .header("x-meltemi-cluster", "outbound|20880||demo")
        .header("x-meltemi-peer", "10.0.0.7:51234")
        .body(())
        .unwrap()
}

pub fn tunnel(client: &Client, request: Request<()>) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    client.borrow_mut().as_mut().expect("the client is there").send_request(request, false).unwrap()
}

pub fn ok() -> Response<()> {
    Response::builder().header("x-meltemi-host", "10.1.1.1:20880").body(()).unwrap()
}

/// Sends all of it as the windows allow.
pub async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
        let part = bytes.split_to(capacity.min(bytes.len()));
        stream.send_data(part, false).unwrap();
    }
    if end {
        stream.send_data(Bytes::new(), true).unwrap();
    }
}

/// Reads so many bytes, or to the end.
pub async fn read(stream: &mut RecvStream, limit: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < limit {
        let Some(bytes) = poll_fn(|context| stream.poll_data(context)).await else { break };
        let bytes = bytes.unwrap();
        stream.flow_control().release_capacity(bytes.len()).unwrap();
        all.extend_from_slice(&bytes);
    }
    all
}

/// Bytes that differ by seed and place.
pub fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect::<Vec<u8>>()
        .into()
}

/// A cell that a task fills and the test reads.
pub fn cell<T: Default>() -> (Rc<RefCell<T>>, Rc<RefCell<T>>) {
    let cell = Rc::new(RefCell::new(T::default()));
    (Rc::clone(&cell), cell)
}
