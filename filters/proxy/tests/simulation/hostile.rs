//! Peers that send what they must not: they are answered or closed, and nobody else notices.

use std::time::Duration;

use meltemi_proxy::Metric;
use meltemi_sockets::Side;
use serde_json::{Value, json};

use crate::dubbo::{BAD_REQUEST, BAD_RESPONSE};
use crate::servers::{Policy, Reply, What};
use crate::wire::Message;
use crate::world::{Ask, Setup, World, value};

const A: &str = "10.0.0.1:20880";

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

/// Another client with a call under way.
fn bystander(world: &mut World) -> (usize, usize) {
    let client = world.connect();
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Echo(0).after(Duration::from_millis(300)),
        _ => Reply::echo(),
    });
    world.call_and_wait(client, Ask::new("echo"));
    (client, world.call(client, Ask::new("slow")))
}

#[test]
fn a_request_over_the_limit_is_answered_and_its_connection_closed() {
    let mut world = world(json!({"limits": {"maxFrameBytes": 10_000}}));
    let (_, slow) = bystander(&mut world);
    let client = world.connect();
    let call = world.call(client, Ask::new("echo").size(20_000));
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert_eq!(world.calls[call].error(), Some(BAD_REQUEST));
    assert_eq!(world.sum(Metric::LocalReplies("bad_request")), 1);
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), None);
}

#[test]
fn no_request_is_larger_than_servers_take() {
    let edit = json!({"set": {"mark": "x".repeat(1000)}});
    let mut world = world(json!({"defaultRoute": {"requestAttachments": edit}}));
    world.serve(|_, _| Reply::echo());
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo").size((8 << 20) - 1000));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.calls[call].deliveries[0].attachments, [], "it would have been too large with them");
    assert_eq!(world.sum(Metric::EditsSkipped), 1);
    let call = world.call(client, Ask::new("echo").size(8 << 20));
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert_eq!(world.calls[call].error(), Some(BAD_REQUEST));
}

#[test]
fn no_answer_is_larger_than_clients_take() {
    let edit = json!({"set": {"mark": "x".repeat(1000)}});
    let mut world = world(json!({"defaultRoute": {"responseAttachments": edit}}));
    let (almost, over) = ((8 << 20) - 1000, 8 << 20);
    world.serve(move |arrival, _| {
        let size = if arrival.method == "over" { over } else { almost };
        What::Echo(size).now()
    });
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("almost"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.sum(Metric::EditsSkipped), 1);
    let call = world.call_and_wait(client, Ask::new("over"));
    assert_eq!(world.calls[call].error(), Some(BAD_RESPONSE));
}

#[test]
fn large_requests_that_never_end_are_bounded_over_all_clients() {
    let mut world = world(json!({
        "limits": {"maxFrameBytes": 16 << 20, "maxRequestBytes": 16 << 20, "cutThroughBytes": 256 << 20}
    }));
    let (_, slow) = bystander(&mut world);
    // Each is just under the limit of one frame, and less its last bytes; together they are over 256 MiB.
    let most = 16 * 1024 * 1024;
    let clients: Vec<usize> = (0..20).map(|_| world.connect()).collect();
    for &client in &clients {
        let mut frame = vec![0xda, 0xbb, 0xc2, 0];
        frame.extend_from_slice(&77_u64.to_be_bytes());
        frame.extend_from_slice(&(most as u32 - 16).to_be_bytes());
        frame.resize(most - 100, b'N');
        world.proxy.clients[client].raw = Some(Vec::new());
        world.write(client, &frame);
    }
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), None);
    let closed = world.sum(Metric::LocalReplies("overloaded"));
    assert!((1..=5).contains(&closed), "{closed} of {} were closed", clients.len());
    let open = clients.iter().filter(|&&client| world.proxy.clients[client].closed_at.is_none()).count();
    assert_eq!(open as i64, clients.len() as i64 - closed);
}

#[test]
fn bytes_that_are_no_frame_close_the_connection_of_their_client() {
    let mut world = world(json!({}));
    let (_, slow) = bystander(&mut world);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.write(client, b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n");
    world.run_until(|world| world.proxy.clients[client].closed_at.is_some());
    assert_eq!(world.sum(Metric::DecodeErrors), 1);
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), None);
}

#[test]
fn a_body_that_cannot_be_read_is_passed_on_by_its_frame() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    // A two-way request of Hessian whose body is no Hessian: the server answers it, in its own words.
    let stream = world.manager.streams_to(A)[0];
    world.manager.connections.get_mut(&stream).unwrap().raw = Some(Vec::new());
    world.proxy.clients[client].raw = Some(Vec::new());
    let mut frame = vec![0xda, 0xbb, 0xc2, 0];
    frame.extend_from_slice(&77_u64.to_be_bytes());
    frame.extend_from_slice(&4_u32.to_be_bytes());
    frame.extend_from_slice(&[0xff; 4]);
    world.write(client, &frame);
    world.run_for(Duration::from_millis(10));
    let got = world.manager.connections[&stream].raw.clone().unwrap();
    assert_eq!((got.len(), &got[12..]), (frame.len(), &frame[12..]));
    let mut answer = got.clone();
    (answer[2], answer[3]) = (2, BAD_REQUEST as u8);
    answer[16..].copy_from_slice(b"\x03bad");
    world.write_upstream(stream, &answer);
    world.run_for(Duration::from_millis(10));
    let got = world.proxy.clients[client].raw.clone().unwrap();
    assert_eq!((&got[4..12], &got[16..]), (&frame[4..12], &b"\x03bad"[..]));
}

#[test]
fn a_response_that_is_no_frame_fails_the_calls_of_its_connection_alone() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.serve(|arrival, _| match arrival.method {
        "bad" => What::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).now(),
        _ => What::Echo(0).after(Duration::from_millis(50)),
    });
    for _ in 0..5 {
        let calls = [world.call(client, Ask::new("echo")), world.call(client, Ask::new("bad"))];
        world.await_all(&calls);
        assert!(calls.iter().all(|&call| world.calls[call].error() == Some(BAD_RESPONSE)));
        // A new connection starts with a clean slate.
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
    }
    assert_eq!(world.sum(Metric::DecodeErrors), 5);
    assert_eq!(world.manager.open(), 1);
}

#[test]
fn what_follows_a_bad_response_is_not_taken_for_an_answer_on_the_next_connection() {
    let mut world = world(json!({"upstream": {"maxCallsPerConnection": 1}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.serve(|arrival, _| match arrival.method {
        "bad" => What::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).now(),
        _ => Reply::echo(),
    });
    // The second call waits for the first, and then for the connection that takes the place of the lost one.
    let calls = world.call_all(client, [Ask::new("bad"), Ask::new("echo")]);
    world.await_all(&calls);
    assert_eq!(world.calls[calls[0]].error(), Some(BAD_RESPONSE));
    assert_eq!(world.calls[calls[1]].error(), None);
}

#[test]
fn a_response_over_the_limit_fails_like_one_that_is_no_frame() {
    let mut world = world(json!({"limits": {"maxFrameBytes": 10_000}}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.serve(|arrival, _| What::Echo(if arrival.method == "large" { 20_000 } else { 0 }).now());
    let call = world.call_and_wait(client, Ask::new("large"));
    assert_eq!(world.calls[call].error(), Some(BAD_RESPONSE));
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
}

#[test]
fn an_answer_that_nobody_waits_for_reaches_nobody() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let stream = world.manager.streams_to(A)[0];
    for id in [0, 1, 0x1_0001, 0x5_0001, u64::MAX] {
        let response = crate::wire::Response { id, payload: vec![1], ..Default::default() };
        let bytes = world.wire.bytes(&Message::Response(response));
        world.write_upstream(stream, &bytes);
    }
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.sum(Metric::UnmatchedResponses), 5);
}

#[test]
fn an_answer_from_a_client_reaches_nobody() {
    let mut world = world(json!({}));
    let client = world.connect();
    let response = crate::wire::Response { id: 1, payload: vec![1], ..Default::default() };
    let bytes = world.wire.bytes(&Message::Response(response));
    world.write(client, &bytes);
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert_eq!(world.sum(Metric::UnmatchedResponses), 1);
}

#[test]
fn heartbeats_of_a_server_that_reads_no_answers_take_no_memory() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let stream = world.manager.streams_to(A)[0];
    world.set_server_reading(stream, false);
    let heartbeats = world.wire.bytes(&Message::Heartbeat { id: 1 }).repeat(10_000);
    for _ in 0..30 {
        world.write_upstream(stream, &heartbeats);
        world.run_for(Duration::from_millis(10));
    }
    // Five megabytes of heartbeats came; two windows' worth of answers at most are kept or on their way.
    let received = world.manager.connections[&stream].received;
    world.set_server_reading(stream, true);
    world.run_for(Duration::from_secs(1));
    let upstream = &world.manager.connections[&stream];
    let answers = upstream.received - received;
    assert!(answers <= 2 << 20, "{answers} bytes were kept");
    assert!(upstream.heartbeats_answered > 10_000);
}

#[test]
fn heartbeats_of_a_client_that_reads_no_answers_stop_being_read() {
    let mut world = world(json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.set_client_reading(client, false);
    let heartbeats = world.wire.bytes(&Message::Heartbeat { id: 1 }).repeat(10_000);
    for _ in 0..40 {
        world.write(client, &heartbeats);
        world.run_for(Duration::from_millis(10));
    }
    let taken = world.proxy.http2.guards().bytes_sent;
    assert!(taken < 4 << 20, "{taken} bytes were taken");
    world.set_client_reading(client, true);
    world.run_until(|world| world.proxy.clients[client].heartbeats_answered == 400_000);
}

#[test]
fn a_peer_that_breaks_http2_is_reported() {
    for side in [Side::Downstream, Side::Upstream] {
        let mut world = world(json!({}));
        let client = world.connect();
        world.call_and_wait(client, Ask::new("echo"));
        let garbage = [0xff; 64];
        match side {
            Side::Downstream => world.proxy.http2.garbage(&garbage),
            Side::Upstream => world.manager.http2.garbage(&garbage),
        }
        world.flush(side);
        world.run_for(Duration::from_millis(10));
        assert_eq!(world.failure.map(|failure| failure.side), Some(side));
        world.shut_down();
        assert_eq!(world.metrics.sum(Metric::ClientConnectionsActive), 0);
    }
}

/// Of such a request nothing is kept, and so nothing of it is left for that of another client.
#[test]
fn where_a_request_ends_that_says_nothing_is_not_where_another_does() {
    let route =
        json!({"name": "echo", "match": [{"attributes": {"method": {"exact": "echo"}}}], "cluster": "demo"});
    let mut world = world(json!({"tracing": {}, "routes": [route], "defaultRoute": {"cluster": "none"}}));
    let (client, stranger) = (world.connect(), world.connect());
    let key = "Z".repeat(30);
    for length in 0..240_u8 {
        let mut nameless = b"\xda\xbb\x82\0\0\0\0\0\0\0\0\x01\0\0\0".to_vec();
        nameless.push(length + 12);
        nameless.extend_from_slice(b"NNNN\0H\x01pS\0");
        nameless.push(length);
        nameless.resize(nameless.len() + usize::from(length), b'p');
        nameless.push(b'Z');
        world.write(stranger, &nameless);
        let ask = Ask::new("echo").with("key", &key).with("b3", "x").with("b3", "y");
        let call = world.call_and_wait(client, ask);
        let call = &world.calls[call];
        assert_eq!((call.error(), call.deliveries.len()), (None, 1));
        assert_eq!(value(&call.deliveries[0].attachments, "key"), Some(&*key), "{length}");
    }
}
