//! A reader that does not read slows the other end down, and only that.

use std::rc::Rc;

use meltemi_sockets::{Options, Side};

use crate::peer::{arrival, cell, client, connect, noise, ok, read, send, server, tunnel};
use crate::splice::Splice;
use crate::world::World;

const LENGTH: usize = 2 << 20;

fn options() -> Options {
    Options {
        receive_window_downstream: 100_000,
        receive_window_upstream: 100_000,
        write_high: 100_000,
        write_low: 30_000,
        ..Options::default()
    }
}

#[test]
fn a_slow_upstream_slows_its_client_and_no_other() {
    let (splice, app) = Splice::app(options().write_high);
    let mut world = World::new(options(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, h2::server::Builder::new().initial_connection_window_size(10 << 20));
    world.run();
    let (sent, counter) = cell::<usize>();
    let (_slow_response, mut stream) = tunnel(&peer, connect("demo"));
    world.spawn(async move {
        for part in noise(1, LENGTH).chunks(10_000) {
            send(&mut stream, bytes::Bytes::copy_from_slice(part), false).await;
            *sent.borrow_mut() += part.len();
        }
        send(&mut stream, bytes::Bytes::new(), true).await;
    });
    let (held, slow) = cell();
    let arrived = arrival(&upstream);
    world.spawn(async move { *held.borrow_mut() = Some(arrived.await) });
    world.run();
    // The server has accepted the stream and reads nothing, not even answers: what was sent is in windows and queues.
    let (request, mut respond) = slow.borrow_mut().take().unwrap();
    let answer = respond.send_response(ok(), false).unwrap();
    world.run();
    let stalled = *counter.borrow();
    assert!(stalled < 500_000, "{stalled}");
    assert!(splice.borrow().most_queued < 220_000, "{}", splice.borrow().most_queued);

    // Another client of the same upstream connection is served meanwhile.
    let (response, mut stream) = tunnel(&peer, connect("demo"));
    let arrived = arrival(&upstream);
    let (through, passed) = cell::<bool>();
    world.spawn(async move {
        let (request, mut respond) = arrived.await;
        let mut stream = respond.send_response(ok(), false).unwrap();
        let bytes = read(&mut request.into_body(), usize::MAX).await;
        send(&mut stream, bytes.into(), true).await;
    });
    world.spawn(async move { send(&mut stream, noise(2, LENGTH), true).await });
    world.spawn(async move {
        let body = response.await.unwrap().into_body();
        let mut body = body;
        assert!(read(&mut body, usize::MAX).await == noise(2, LENGTH));
        *through.borrow_mut() = true;
    });
    world.run();
    assert!(*passed.borrow());
    assert_eq!(*counter.borrow(), stalled);

    // Once the first is read, all of it arrives.
    let (done, arrived) = cell::<bool>();
    world.spawn(async move {
        assert!(read(&mut request.into_body(), usize::MAX).await == noise(1, LENGTH));
        *done.borrow_mut() = true;
        drop(answer);
    });
    world.run();
    assert!(*arrived.borrow());
}

#[test]
fn a_slow_client_slows_its_upstream() {
    let (splice, app) = Splice::app(options().write_high);
    let mut world = World::new(options(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    let (response, _stream) = tunnel(&peer, connect("demo"));
    let (sent, counter) = cell::<usize>();
    let arrived = arrival(&upstream);
    world.spawn(async move {
        let (_, mut respond) = arrived.await;
        let mut stream = respond.send_response(ok(), false).unwrap();
        for part in noise(3, LENGTH).chunks(10_000) {
            send(&mut stream, bytes::Bytes::copy_from_slice(part), false).await;
            *sent.borrow_mut() += part.len();
        }
        send(&mut stream, bytes::Bytes::new(), true).await;
    });
    let (slot, held) = cell();
    world.spawn(async move { *slot.borrow_mut() = Some(response.await.unwrap().into_body()) });
    world.run();
    assert!(*counter.borrow() < 500_000, "{}", *counter.borrow());
    assert!(splice.borrow().most_queued < 220_000);
    let mut body: h2::RecvStream = held.borrow_mut().take().unwrap();
    let (done, all) = cell::<Vec<u8>>();
    world.spawn(async move { *done.borrow_mut() = read(&mut body, usize::MAX).await });
    world.run();
    assert!(*all.borrow() == noise(3, LENGTH));
}

/// With the connection's window short, sockets take turns.
#[test]
fn a_short_connection_window_is_shared() {
    let (_, app) = Splice::app(options().write_high);
    let mut world = World::new(options(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, h2::server::Builder::new().initial_window_size(1 << 20));
    world.run();
    let (counts, progress) = cell::<Vec<usize>>();
    counts.borrow_mut().resize(4, 0);
    for number in 0..4 {
        let (response, mut stream) = tunnel(&peer, connect("demo"));
        world.spawn(async move {
            send(&mut stream, noise(number as u64, 1 << 20), true).await;
            response.await.unwrap();
        });
        let (arrived, counts) = (arrival(&upstream), Rc::clone(&counts));
        world.spawn(async move {
            let (request, mut respond) = arrived.await;
            let _stream = respond.send_response(ok(), false).unwrap();
            let mut body = request.into_body();
            loop {
                let bytes = std::future::poll_fn(|context| body.poll_data(context)).await;
                let Some(bytes) = bytes else { break };
                counts.borrow_mut()[number] += bytes.unwrap().len();
            }
        });
    }
    world.run();
    // Nobody grants the connection's window again, so 65 535 bytes are all, and they were dealt out evenly.
    let counts = progress.borrow().clone();
    assert_eq!(counts.iter().sum::<usize>(), 65_535);
    assert!(counts.iter().all(|&count| count > 10_000), "{counts:?}");
    assert!(world.frames_sent(Side::Upstream, 6) > 0);
}

#[test]
fn the_peer_is_never_asked_for_two_answers_at_once() {
    let (_, app) = Splice::app(options().write_high);
    let mut world = World::new(options(), app);
    let peer = client(&mut world, &h2::client::Builder::new());
    let upstream = server(&mut world, &h2::server::Builder::new());
    world.run();
    for seed in 0..8 {
        let (response, mut stream) = tunnel(&peer, connect("demo"));
        let arrived = arrival(&upstream);
        world.spawn(async move {
            let (request, mut respond) = arrived.await;
            let mut stream = respond.send_response(ok(), false).unwrap();
            let bytes = read(&mut request.into_body(), usize::MAX).await;
            send(&mut stream, bytes.into(), true).await;
        });
        world.spawn(async move { send(&mut stream, noise(seed, 500_000), true).await });
        world.spawn(async move {
            assert_eq!(read(&mut response.await.unwrap().into_body(), usize::MAX).await.len(), 500_000);
        });
    }
    world.run();
    for side in [Side::Downstream, Side::Upstream] {
        let callbacks = world.transcript.iter().filter(|(from, _)| *from == side).count();
        assert!(world.frames_sent(side, 6) <= callbacks + 1);
    }
    assert!(world.sockets.borrow().is_idle());
}
