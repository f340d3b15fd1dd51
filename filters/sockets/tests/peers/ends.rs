//! Half-closes, resets, drains, hand-overs and limits on streams.

use std::rc::Rc;

use bytes::Bytes;
use meltemi_sockets::{Event, Options, Side, Target};

use crate::peer::{arrival, cell, client, connect, ok, read, send, server, tunnel};
use crate::splice::Splice;
use crate::world::World;

fn world(
    options: Options,
) -> (World, crate::peer::Client, crate::peer::Server, Rc<std::cell::RefCell<Splice>>) {
    let (splice, app) = Splice::app(options.write_high);
    let mut world = World::new(options, app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    (world, peer, upstream, splice)
}

#[test]
fn half_closes_pass_in_either_order() {
    for client_first in [true, false] {
        let (mut world, peer, upstream, splice) = world(Options::default());
        let (response, mut stream) = tunnel(&peer, connect("demo"));
        let arrived = arrival(&upstream);
        world.spawn(async move {
            let (request, mut respond) = arrived.await;
            let mut body = request.into_body();
            let mut stream = respond.send_response(ok(), false).unwrap();
            if client_first {
                assert_eq!(read(&mut body, usize::MAX).await, b"ping");
                send(&mut stream, "pong".into(), true).await;
            } else {
                send(&mut stream, "pong".into(), true).await;
                assert_eq!(read(&mut body, usize::MAX).await, b"ping");
            }
        });
        world.spawn(async move {
            let mut body = response.await.unwrap().into_body();
            if client_first {
                send(&mut stream, "ping".into(), true).await;
                assert_eq!(read(&mut body, usize::MAX).await, b"pong");
            } else {
                assert_eq!(read(&mut body, usize::MAX).await, b"pong");
                send(&mut stream, "ping".into(), true).await;
            }
        });
        world.run();
        assert!(world.sockets.borrow().is_idle());
        assert_eq!(world.frames_sent(Side::Upstream, 3) + world.frames_sent(Side::Downstream, 3), 0);
        let ends = splice.borrow().log.iter().filter(|event| event.starts_with("Ended")).count();
        assert_eq!(ends, 2);
    }
}

#[test]
fn resets_pass_both_ways() {
    for from_client in [true, false] {
        let (mut world, peer, upstream, _) = world(Options::default());
        let (response, mut stream) = tunnel(&peer, connect("demo"));
        let arrived = arrival(&upstream);
        world.spawn(async move {
            let (mut request, mut respond) = arrived.await;
            let mut stream = respond.send_response(ok(), false).unwrap();
            if from_client {
                let error = std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap();
                assert_eq!(error, h2::Reason::CANCEL);
            } else {
                read(request.body_mut(), 1).await;
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            drop(request);
        });
        world.spawn(async move {
            let body = response.await.unwrap().into_body();
            if from_client {
                stream.send_reset(h2::Reason::CONNECT_ERROR);
            } else {
                send(&mut stream, "x".into(), false).await;
                let error = std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap();
                assert_eq!(error, h2::Reason::CANCEL);
            }
            drop(body);
        });
        world.run();
        assert!(world.sockets.borrow().is_idle());
    }
}

#[test]
fn a_closed_socket_sends_what_is_queued_and_swallows_the_rest() {
    let (mut world, peer, upstream, splice) = world(Options::default());
    let (response, mut stream) = tunnel(&peer, connect("demo"));
    let arrived = arrival(&upstream);
    let (slot, held) = cell();
    world.spawn(async move {
        let (request, mut respond) = arrived.await;
        *slot.borrow_mut() = Some((request.into_body(), respond.send_response(ok(), false).unwrap()));
    });
    let (slot, client_body) = cell();
    world.spawn(async move { *slot.borrow_mut() = Some(response.await.unwrap().into_body()) });
    world.run();
    let (mut body, mut answer) = held.borrow_mut().take().unwrap();
    let mut client_body: h2::RecvStream = client_body.borrow_mut().take().unwrap();
    {
        let mut sockets = world.sockets.borrow_mut();
        for &id in &splice.borrow().ids {
            sockets.write(id).unwrap().extend_from_slice(b"last words");
            sockets.close(id);
            assert!(sockets.write(id).is_none());
            sockets.close(id);
        }
    }
    world.spawn(async move {
        assert_eq!(read(&mut body, usize::MAX).await, b"last words");
        send(&mut answer, "too late".into(), true).await;
    });
    world.spawn(async move {
        // Anything from the client brings the callbacks.
        send(&mut stream, "too late as well".into(), true).await;
        assert_eq!(read(&mut client_body, usize::MAX).await, b"last words");
    });
    world.run();
    assert!(world.sockets.borrow().is_idle());
    assert_eq!(world.frames_sent(Side::Upstream, 3) + world.frames_sent(Side::Downstream, 3), 0);
}

#[test]
fn a_peer_that_goes_on_sending_to_a_closed_socket_is_reset() {
    let (mut world, peer, upstream, splice) =
        world(Options { receive_window_downstream: 100_000, ..Options::default() });
    let (response, mut stream) = tunnel(&peer, connect("demo"));
    let arrived = arrival(&upstream);
    world.spawn(async move {
        let (_, mut respond) = arrived.await;
        respond.send_response(ok(), true).unwrap();
    });
    let (slot, held) = cell();
    world.spawn(async move {
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        *slot.borrow_mut() = Some(response.into_body());
    });
    world.run();
    assert!(held.borrow().is_some());
    world.sockets.borrow_mut().close(splice.borrow().ids[0]);
    let (slot, reason) = cell();
    world.spawn(async move {
        loop {
            stream.reserve_capacity(1000);
            match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(_)) => stream.send_data(Bytes::from_static(&[0; 1000]), false).unwrap(),
                _ => break,
            }
        }
        let reason = std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap();
        *slot.borrow_mut() = Some(reason);
    });
    world.run();
    assert_eq!(*reason.borrow(), Some(h2::Reason::NO_ERROR));
}

#[test]
fn a_drain_lets_old_sockets_live_on() {
    let (mut world, peer, upstream, _) = world(Options::default());
    let echo = |arrived: crate::peer::Arrived| async move {
        let (request, mut respond) = arrived;
        let mut stream = respond.send_response(ok(), false).unwrap();
        let bytes = read(&mut request.into_body(), usize::MAX).await;
        send(&mut stream, bytes.into(), true).await;
    };
    let (response, mut stream) = tunnel(&peer, connect("demo"));
    let arrived = arrival(&upstream);
    world.spawn(async move { echo(arrived.await).await });
    world.spawn(async move {
        assert_eq!(read(&mut response.await.unwrap().into_body(), usize::MAX).await, b"still here");
    });
    world.run();
    world.sockets.borrow_mut().drain();
    assert!(world.sockets.borrow().is_draining());
    // The GOAWAY leaves with the next callback.
    world.spawn(async move {
        send(&mut stream, "still".into(), false).await;
        send(&mut stream, " here".into(), true).await;
    });
    world.run();
    assert_eq!(world.frames_sent(Side::Downstream, 7), 2);
    let ready = std::future::poll_fn(move |context| peer.borrow_mut().as_mut().unwrap().poll_ready(context));
    let (slot, refused) = cell::<bool>();
    world.spawn(async move { *slot.borrow_mut() = ready.await.is_err() });
    world.run();
    assert!(*refused.borrow());
    assert!(world.sockets.borrow().is_idle());
}

#[test]
fn ids_that_run_short_hand_over() {
    let options = Options { handover_stream_id: 5, last_stream_id: 7, ..Options::default() };
    let (mut world, peer, upstream, splice) = world(options);
    let (slot, statuses) = cell::<Vec<u16>>();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let (response, stream) = tunnel(&peer, connect("demo"));
        streams.push(stream);
        let (arrived, slot) = (arrival(&upstream), Rc::clone(&slot));
        world.spawn(async move {
            let (_, mut respond) = arrived.await;
            let mut stream = respond.send_response(ok(), false).unwrap();
            std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap();
        });
        world.spawn(async move {
            let status = response.await.unwrap().status().as_u16();
            slot.borrow_mut().push(status);
        });
    }
    world.run();
    // Streams that were under way when the GOAWAY left are served; then the upstream's ids are used up.
    assert_eq!(*statuses.borrow(), [200; 4]);
    assert!(world.sockets.borrow().is_draining());
    assert_eq!(world.frames_sent(Side::Downstream, 7), 2);
    assert_eq!(splice.borrow().ids.len(), 8);
    let target = Target { cluster: "demo", ..Target::default() };
    assert_eq!(world.sockets.borrow_mut().connect(&target), None);
    assert!(!world.sockets.borrow_mut().alarm(std::time::Duration::from_millis(1)));
}

#[test]
fn an_upstream_that_goes_away_drains_the_clients() {
    let (splice, app) = Splice::app(1 << 20);
    let mut world = World::new(Options::default(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let wire = world.upstream.clone();
    let (slot, shutdown) = cell::<bool>();
    world.spawn(async move {
        let mut connection = h2::server::handshake(wire).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        *slot.borrow_mut() = true;
        connection.graceful_shutdown();
        let mut finished = false;
        std::future::poll_fn(|context| {
            let closed = connection.poll_closed(context);
            if !finished {
                stream.send_data("after".into(), true).unwrap();
                finished = true;
            }
            closed
        })
        .await
        .unwrap();
    });
    let (response, mut stream) = tunnel_after(&mut world, &peer);
    world.spawn(async move {
        assert_eq!(read(&mut response.await.unwrap().into_body(), usize::MAX).await, b"after");
        send(&mut stream, Bytes::new(), true).await;
    });
    world.run();
    assert!(*shutdown.borrow());
    let log = splice.borrow().log.join("\n");
    assert!(log.contains(&format!("{:?}", Event::GoingAway { side: Side::Upstream })), "{log}");
    assert!(world.sockets.borrow().is_draining());
    let target = Target { cluster: "demo", ..Target::default() };
    assert_eq!(world.sockets.borrow_mut().connect(&target), None);
}

fn tunnel_after(
    world: &mut World,
    peer: &crate::peer::Client,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    world.run();
    tunnel(peer, connect("demo"))
}

#[test]
fn streams_wait_for_the_limit_of_the_peer() {
    let (_, app) = Splice::app(1 << 20);
    let mut world = World::new(Options::default(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, h2::server::Builder::new().max_concurrent_streams(2));
    world.run();
    let (slot, answered) = cell::<usize>();
    let mut streams = Vec::new();
    for _ in 0..6 {
        let (response, stream) = tunnel(&peer, connect("demo"));
        streams.push(stream);
        let slot = Rc::clone(&slot);
        world.spawn(async move {
            if response.await.unwrap().status() == 200 {
                *slot.borrow_mut() += 1;
            }
        });
    }
    world.run();
    for expected in [2, 4, 6] {
        let arrived: Vec<_> = upstream.borrow_mut().drain(..).collect();
        // The first streams go before the peer has said what it allows.
        assert!(!arrived.is_empty());
        for (request, mut respond) in arrived {
            let mut stream = respond.send_response(ok(), false).unwrap();
            world.spawn(async move {
                read(&mut request.into_body(), usize::MAX).await;
                stream.send_data(Bytes::new(), true).unwrap();
            });
        }
        world.run();
        assert_eq!(*answered.borrow(), expected);
        for stream in &mut streams[expected - 2..expected] {
            stream.send_data(Bytes::new(), true).unwrap();
        }
        world.run();
    }
    assert!(world.sockets.borrow().is_idle());
}
