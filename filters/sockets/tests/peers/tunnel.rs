//! Opening, carrying bytes, being refused, and every transcript of it cut in two.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use meltemi_sockets::{Event, Options, Side, Sockets};

use crate::peer::{arrival, cell, client, connect, noise, ok, read, send, server, tunnel};
use crate::splice::Splice;
use crate::world::World;

/// A server that sends everything back.
async fn echo(arrived: crate::peer::Arrived) {
    let (request, mut respond) = arrived;
    let mut body = request.into_body();
    let mut stream = respond.send_response(ok(), false).unwrap();
    loop {
        let bytes = read(&mut body, 1).await;
        if bytes.is_empty() {
            break;
        }
        send(&mut stream, bytes.into(), false).await;
    }
    send(&mut stream, Bytes::new(), true).await;
}

/// So many clients at once, each sending so many bytes to an echo server. Returns the world for a look at it.
fn echoes(options: Options, clients: usize, length: usize) -> (World, Rc<RefCell<Splice>>) {
    let (splice, app) = Splice::app(options.write_high);
    let mut world = World::new(options, app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    let (done, count) = cell::<usize>();
    for seed in 0..clients {
        let arrived = arrival(&upstream);
        world.spawn(async move { echo(arrived.await).await });
        let (response, mut stream) = tunnel(&peer, connect("demo"));
        let (sent, expected) = (noise(seed as u64, length + seed), noise(seed as u64, length + seed));
        world.spawn(async move { send(&mut stream, sent, true).await });
        let done = Rc::clone(&done);
        world.spawn(async move {
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let back = read(&mut response.into_body(), usize::MAX).await;
            assert!(back == expected);
            *done.borrow_mut() += 1;
        });
    }
    world.run();
    assert_eq!(*count.borrow(), clients);
    assert!(world.sockets.borrow().is_idle());
    (world, splice)
}

#[test]
fn bytes_cross_both_ways() {
    let (_, splice) = echoes(Options::default(), 1, 5);
    splice.borrow_mut().flush_log();
    let log = splice.borrow().log.join("\n");
    assert!(
        log.contains(
            r#"authority: "demo", cluster: Some("outbound|20880||demo"), peer: Some("10.0.0.7:51234")"#
        ),
        "{log}"
    );
    assert!(log.contains(r#"endpoint: Some("10.1.1.1:20880")"#), "{log}");
}

#[test]
fn many_clients_at_once() {
    echoes(Options::default(), 100, 20_000);
}

#[test]
fn large_bodies_in_small_windows() {
    let options = Options {
        receive_window_downstream: 1000,
        receive_window_upstream: 70_000,
        write_high: 20_000,
        write_low: 5000,
        ..Options::default()
    };
    echoes(options, 5, 1 << 20);
}

#[test]
fn frames_are_coalesced_and_updates_few() {
    let (world, _) = echoes(Options::default(), 1, 4 << 20);
    // 16 KiB a frame is what the peer allows.
    assert!(world.frames_sent(Side::Upstream, 0) < 256 + 64, "{}", world.frames_sent(Side::Upstream, 0));
    assert!(world.frames_sent(Side::Downstream, 8) < 20, "{}", world.frames_sent(Side::Downstream, 8));
    assert!(world.frames_sent(Side::Upstream, 8) < 20, "{}", world.frames_sent(Side::Upstream, 8));
}

#[test]
fn large_headers_cross_in_continuations() {
    let (splice, app) = Splice::app(1 << 20);
    splice.borrow_mut().headers = vec![("x-large".into(), "v".repeat(50_000))];
    splice.borrow_mut().endpoint = Some("10.1.1.1:20880".into());
    let mut world = World::new(Options::default(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, h2::server::Builder::new().max_header_list_size(1 << 20));
    world.run();
    let mut request = connect("demo");
    request.headers_mut().insert("x-big", "w".repeat(40_000).parse().unwrap());
    let (response, _stream) = tunnel(&peer, request);
    let arrived = arrival(&upstream);
    world.spawn(async move {
        let (request, mut respond) = arrived.await;
        assert_eq!(request.method(), http::Method::CONNECT);
        assert_eq!(request.uri().authority().unwrap(), "meltemi");
        assert_eq!(request.headers()["x-meltemi-cluster"], "outbound|20880||demo");
        assert_eq!(request.headers()["x-meltemi-session"], "MTAuMS4xLjE6MjA4ODA=");
        assert_eq!(request.headers()["x-large"].len(), 50_000);
        let mut answer = ok();
        answer.headers_mut().insert("x-long", "u".repeat(30_000).parse().unwrap());
        respond.send_response(answer, true).unwrap();
    });
    world.spawn(async move { assert_eq!(response.await.unwrap().status(), 200) });
    world.run();
    let log = splice.borrow().log.join("\n");
    assert!(log.contains(&"w".repeat(40_000)) && log.contains(&"u".repeat(30_000)));
    assert!(world.frames_sent(Side::Upstream, 9) >= 3);
}

#[test]
fn a_refusal_tells_the_endpoint_and_the_reason() {
    let (splice, app) = Splice::app(1 << 20);
    let mut world = World::new(Options { max_reason: 10, ..Options::default() }, app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    let (response, _stream) = tunnel(&peer, connect("demo"));
    let arrived = arrival(&upstream);
    world.spawn(async move {
        let (_, mut respond) = arrived.await;
        let answer = Response::builder()
            .status(503)
            .header("x-meltemi-session", "MTAuMS4xLjI6MjA4ODA=")
            .header("x-meltemi-host", "elsewhere")
            .body(())
            .unwrap();
        let mut stream = respond.send_response(answer, false).unwrap();
        send(&mut stream, "upstream connect error".into(), true).await;
    });
    world.spawn(async move { assert_eq!(response.await.unwrap().status(), 503) });
    world.run();
    let log = splice.borrow().log.join("\n");
    assert!(log.contains(r#"status: 503, endpoint: Some("10.1.1.2:20880"), reason: "upstream c""#), "{log}");
    drop(_stream);
    world.run();
    assert!(world.sockets.borrow().is_idle());
}

#[test]
fn a_reset_before_the_answer_is_a_refusal() {
    let (splice, app) = Splice::app(1 << 20);
    let mut world = World::new(Options::default(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    let (response, _stream) = tunnel(&peer, connect("demo"));
    let arrived = arrival(&upstream);
    world.spawn(async move { arrived.await.1.send_reset(h2::Reason::REFUSED_STREAM) });
    world.spawn(async move { assert_eq!(response.await.unwrap().status(), 500) });
    world.run();
    assert!(splice.borrow().log.join("\n").contains(r#"status: 0, endpoint: None, reason: "" }"#));
}

/// Plays a transcript to fresh sockets, each input in the given parts, and returns the events.
fn replay(
    options: &Options,
    transcript: &[(Side, Vec<u8>)],
    cut: impl Fn(usize, usize) -> usize,
) -> Vec<String> {
    let (splice, mut app) = Splice::app(options.write_high);
    let mut sockets = Sockets::new(options.clone());
    for (number, (side, input)) in transcript.iter().enumerate() {
        let (head, tail) = input.split_at(cut(number, input.len()));
        for part in [head, tail] {
            let mut rest = part;
            while let Some(event) = sockets.receive(*side, &mut rest).unwrap() {
                assert!(!matches!(event, Event::Data { bytes: [], .. }));
                app(&mut sockets, event);
            }
        }
        sockets.transmit(side.other(), &mut Vec::new());
    }
    splice.borrow_mut().flush_log();
    std::mem::take(&mut splice.borrow_mut().log)
}

#[test]
fn a_transcript_cut_anywhere_gives_the_same_events() {
    let options =
        Options { receive_window_upstream: 300, write_high: 200, write_low: 100, ..Options::default() };
    let (world, splice) = echoes(options.clone(), 3, 400);
    splice.borrow_mut().flush_log();
    let expected = splice.borrow().log.clone();
    assert_eq!(replay(&options, &world.transcript, |_, length| length), expected);
    for (number, (_, input)) in world.transcript.iter().enumerate() {
        for at in 0..input.len() {
            let events =
                replay(&options, &world.transcript, |n, length| if n == number { at } else { length });
            assert_eq!(events, expected, "input {number} cut at {at}");
        }
    }
    // All at once, and single bytes.
    for step in 1..40 {
        let events = replay(&options, &world.transcript, |_, length| step.min(length));
        assert_eq!(events, expected, "every input cut at {step}");
    }
}
