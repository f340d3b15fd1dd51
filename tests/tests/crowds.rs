//! Many clients with large messages at once: those that pass while they come take little memory, however slow they are read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use meltemi_tests::bench::proc::Memory;
use meltemi_tests::dubbo::{Argument, Frame};
use meltemi_tests::{DEADLINE, Proxy, Setup, each_envoy, eventually};
use serde_json::json;
use socket2::SockRef;

const MIB: usize = 1 << 20;

/// What VMs of a worker and of the main thread may take, all together.
const MOST: u64 = 32 << 20;

const CLIENTS: usize = 64;

/// A string of nearly 8 MiB, which is as much as Dubbo takes by default.
const LARGE: usize = 8 * MIB - 1024;

/// Length of a frame's head, and where its id and the length of the rest lie in it.
const HEAD: usize = 16;

/// What stands in somebody's way until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let is_closed = |is_open: &mut bool| !*is_open;
        let waited = self.0.1.wait_timeout_while(self.0.0.lock().unwrap(), DEADLINE, is_closed).unwrap();
        assert!(!waited.1.timed_out(), "the gate stays closed");
    }
}

/// Reads a frame, and keeps nothing but its head.
fn skip_frame(stream: &mut TcpStream, gate: Option<&Gate>, chunk: &mut [u8]) -> Option<[u8; HEAD]> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).ok()?;
    if let Some(gate) = gate {
        gate.pass();
    }
    let mut left = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
    while left > 0 {
        let most = left.min(chunk.len());
        left -= stream.read(&mut chunk[..most]).ok().filter(|count| *count > 0)?;
    }
    Some(head)
}

/// A server that answers each call with `answer`. It reads what follows the head of a request once the gate is open.
fn serve(answer: Vec<u8>, gate: &Gate) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, gate) = (Arc::new(answer), gate.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, gate) = (stream.unwrap(), Arc::clone(&answer), gate.clone());
            thread::spawn(move || {
                let mut chunk = vec![0; MIB];
                while let Some(head) = skip_frame(&mut stream, Some(&gate), &mut chunk) {
                    let mut front = answer[..HEAD].to_vec();
                    front[4..12].copy_from_slice(&head[4..12]);
                    let written = stream.write_all(&front).and_then(|()| stream.write_all(&answer[HEAD..]));
                    if written.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// All clients call at once, and read their answers in pieces of `piece` bytes; `between` is run when all have called.
fn call_all(proxy: &Proxy, request: &[u8], piece: usize, between: impl FnOnce()) {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(proxy.meltemi()).unwrap();
                    stream.set_read_timeout(Some(DEADLINE)).unwrap();
                    stream.write_all(request).unwrap();
                    let head = skip_frame(&mut stream, None, &mut vec![0; piece]).expect("an answer");
                    assert_eq!(head[4..12], request[4..12]);
                })
            })
            .collect();
        between();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

fn start(envoy: &meltemi_tests::Envoy, server: SocketAddr) -> Proxy {
    let limits = json!({"maxFrameBytes": 16 * MIB});
    let service = json!({"protocol": "dubbo", "limits": limits, "defaultRoute": {"cluster": "v1"}});
    Setup::new().servers(server, server).service(&service).start(envoy)
}

/// The VMs have taken no more than they may: their memory never shrinks.
fn assert_small(proxy: &Proxy, what: &str) {
    let memory = Memory::of(proxy.process()).unwrap().vm;
    println!("{} KiB after {what}", memory >> 10);
    assert!(memory < MOST, "the VMs take {} KiB after {what}", memory >> 10);
    assert_eq!(proxy.metric("meltemi_client_connections_given_up_total", &[]), 0);
}

/// Bytes that came of clients.
fn received(proxy: &Proxy) -> u64 {
    proxy.stat(r"^tcp\.demo\.downstream_cx_rx_bytes_total$")
}

#[test]
fn many_large_requests_take_little_memory() {
    let large = Argument::Text("x".repeat(LARGE));
    let small = Argument::Text("y".repeat(64));
    each_envoy(|envoy| {
        let gate = Gate::default();
        let proxy = start(envoy, serve(Frame::response(0, &small).bytes(), &gate));
        let request = Frame::request(7, "sayHello", large.clone()).bytes();
        call_all(&proxy, &request, MIB, || {
            let (mut before, mut looks) = (0, 0);
            eventually("no more is taken of the clients", || {
                let now = received(&proxy);
                looks = if now > 0 && now == before { looks + 1 } else { 0 };
                before = now;
                (looks > 20).then_some(())
            });
            println!("{} MiB were taken", before >> 20);
            assert_small(&proxy, "what servers do not read");
            gate.open();
        });
        assert_small(&proxy, "all requests");
    });
}

#[test]
fn many_large_answers_take_little_memory() {
    let large = Argument::Text("x".repeat(LARGE));
    each_envoy(|envoy| {
        let gate = Gate::default();
        gate.open();
        let proxy = start(envoy, serve(Frame::response(0, &large).bytes(), &gate));
        let request = Frame::request(7, "sayHello", "small").bytes();
        for piece in [MIB, 16 << 10] {
            call_all(&proxy, &request, piece, || ());
            assert_small(&proxy, "all answers");
        }
        let request = Frame::request(7, "sayHello", large.clone()).bytes();
        call_all(&proxy, &request, MIB, || ());
        assert_small(&proxy, "requests and answers");
    });
}
