//! Requests and alarms through the connection manager.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Response};
use meltemi_sockets::{Event, Options, Request, Sockets};

use crate::peer::{arrival, cell, client, noise, read, send, server, tunnel};
use crate::world::World;

/// A filter that asks and sets alarms when a client comes, and notes what comes of it.
fn asking(ask: impl Fn(&mut Sockets) + 'static) -> (Rc<RefCell<Vec<String>>>, crate::world::App) {
    let (log, events) = cell::<Vec<String>>();
    let app = move |sockets: &mut Sockets, event: Event<'_>| {
        log.borrow_mut().push(format!("{event:?}"));
        if let Event::Accepted { .. } = event {
            ask(sockets);
        }
    };
    (events, Box::new(app))
}

/// A world where one client has come.
fn world(app: crate::world::App) -> (World, crate::peer::Server, h2::SendStream<bytes::Bytes>) {
    let mut world = World::new(Options { max_response_body: 100, ..Options::default() }, app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    let (response, stream) = tunnel(&peer, crate::peer::connect("demo"));
    world.spawn(async move { drop(response.await) });
    world.run();
    (world, upstream, stream)
}

#[test]
fn a_request_brings_head_body_and_trailers() {
    let (events, app) = asking(|sockets| {
        let request = Request {
            method: "POST",
            scheme: "http",
            authority: "limits",
            path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            cluster: Some("ratelimit"),
            headers: &[("content-type", "application/grpc"), ("te", "trailers")],
            body: &noise(9, 100_000),
        };
        assert!(sockets.request(&request).is_some());
    });
    let (mut world, upstream, _client) = world(app);
    let arrived = arrival(&upstream);
    world.spawn(async move {
        let (request, mut respond) = arrived.await;
        assert_eq!(
            request.uri(),
            "http://limits/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
        );
        assert_eq!(request.headers()["x-meltemi-cluster"], "ratelimit");
        assert_eq!(request.headers()["te"], "trailers");
        assert!(read(&mut request.into_body(), usize::MAX).await == noise(9, 100_000));
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        send(&mut stream, "answer".into(), false).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    });
    world.run();
    let expected = r#"status: 200, headers: [("content-type", "application/grpc")], body: [97, 110, 115, 119, 101, 114], trailers: [("grpc-status", "0")] }"#;
    assert!(events.borrow().last().unwrap().ends_with(expected), "{:?}", events.borrow());
}

#[test]
fn a_large_answer_is_cut_and_an_early_one_ends_the_request() {
    let (events, app) = asking(|sockets| {
        let body = noise(9, 1_000_000);
        let request = Request {
            method: "PUT",
            scheme: "http",
            authority: "a",
            path: "/",
            body: &body,
            ..Request::default()
        };
        sockets.request(&request);
    });
    let (mut world, upstream, _client) = world(app);
    let arrived = arrival(&upstream);
    world.spawn(async move {
        let (request, mut respond) = arrived.await;
        let head = Response::builder().status(413).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        send(&mut stream, noise(1, 3_000_000), true).await;
        let length = read(&mut request.into_body(), usize::MAX).await.len();
        assert!(length < 300_000, "{length}");
    });
    world.run();
    let last = events.borrow().last().unwrap().clone();
    let expected = format!("status: 413, headers: [], body: {:?}, trailers: [] }}", &noise(1, 100)[..]);
    assert!(last.ends_with(&expected), "{last}");
}

#[test]
fn a_request_that_is_reset_has_failed() {
    let (events, app) = asking(|sockets| {
        let request =
            Request { method: "GET", scheme: "http", authority: "a", path: "/", ..Request::default() };
        sockets.request(&request);
    });
    let (mut world, upstream, _client) = world(app);
    let arrived = arrival(&upstream);
    world.spawn(async move { arrived.await.1.send_reset(h2::Reason::INTERNAL_ERROR) });
    world.run();
    assert!(events.borrow().last().unwrap().ends_with("status: 0, headers: [], body: [], trailers: [] }"));
}

#[test]
fn an_alarm_rings_when_its_answer_comes() {
    let (events, app) = asking(|sockets| assert!(sockets.alarm(Duration::from_micros(1_500_001))));
    let (mut world, upstream, _client) = world(app);
    let (request, mut respond) = upstream.borrow_mut().pop_front().unwrap();
    assert_eq!(request.uri(), "http://meltemi/alarm");
    assert_eq!(request.headers()["x-envoy-fault-delay-request"], "1501");
    assert!(request.body().is_end_stream());
    world.run();
    assert!(!events.borrow().contains(&"Alarm".to_owned()));
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data("late".into(), true).unwrap();
    world.run();
    assert_eq!(events.borrow().last().unwrap(), "Alarm");
}
