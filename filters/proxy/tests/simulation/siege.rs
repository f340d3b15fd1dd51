//! Clients that mean harm: they have all the calls that they may and garbage behind them, or more than is kept of one
//! client; then a server goes, or they do, and what all of them wait for happens at once.

use std::time::Duration;

use crate::counts::is_copy;
use crate::random::Random;
use crate::scene::Scene;
use crate::servers::Endpoint;
use crate::world::{Ask, Call, World};

/// Just what is kept of one client's requests before it is not read further.
const LARGE: usize = 4 << 20;

/// Servers take their time for a call of this method.
pub const LINGER: &str = "linger";

/// Three clients come, and get in each other's way: one with all the calls that it may have, and garbage behind them; one
/// of which so much is kept that it is not read further; and one that comes when what these wait for happens.
pub fn lay_siege(world: &mut World, most_calls: u64) {
    if world.proxy.is_refused {
        return;
    }
    let [breaker, hoarder, third] = [world.connect(), world.connect(), world.connect()];
    let most = most_calls as usize;
    let first = 1 + world.random.below(most - 1);
    call(world, breaker, vec![Ask::new(LINGER); first]);
    let large = hoard(world, hoarder);
    once_arrived(world, large, 60, move |world| {
        let beyond = if world.random.chance(0.2) { 1 } else { 0 };
        let more = (most + beyond).saturating_sub(in_flight(world, breaker));
        let last = call(world, breaker, vec![Ask::new(LINGER); more]);
        if world.can_call(breaker) && world.random.chance(0.7) {
            world.break_off(breaker);
        }
        once_arrived(world, last, 6, move |world| {
            strike(world, breaker);
            for _ in 0..3 {
                let after = Duration::from_micros(world.random.between(1..10_000));
                world.after(after, move |world| {
                    let asks = asks(&mut world.random, 2);
                    call(world, third, asks);
                });
            }
        });
    });
}

/// Has something happen once a server was sent a call, or after so many milliseconds.
fn once_arrived(world: &mut World, call: Option<usize>, within: u32, act: impl FnOnce(&mut World) + 'static) {
    let Some(left) = within.checked_sub(1) else { return act(world) };
    world.after(Duration::from_millis(1), move |world| {
        let is_there = call.is_none_or(|call| !world.calls[call].deliveries.is_empty());
        once_arrived(world, call, if is_there { 0 } else { left }, act);
    });
}

/// Makes calls, if the client can; the last of them.
fn call(world: &mut World, client: usize, asks: Vec<Ask>) -> Option<usize> {
    if world.can_call(client) { world.call_all(client, asks).pop() } else { None }
}

/// Calls of a client that have no answer.
fn in_flight(world: &World, client: usize) -> usize {
    let calls = world.calls.iter().filter(|call| call.client == client);
    calls.filter(|call| call.answer.is_none()).count()
}

fn asks(random: &mut Random, count: usize) -> Vec<Ask> {
    let ask = |random: &mut Random| match random.below(10) {
        0 => Ask::new("log").one_way(),
        1 => Ask::new("echo"),
        _ => Ask::new(LINGER),
    };
    (0..count).map(|_| ask(random)).collect()
}

/// Makes a large call, and small ones behind it; the large one.
fn hoard(world: &mut World, client: usize) -> Option<usize> {
    let large = match world.random.chance(0.3) {
        true => Ask::new("log").one_way(),
        false => Ask::new(LINGER),
    };
    let count = 2 + world.random.below(6);
    let more = asks(&mut world.random, count);
    world.call_all(client, [vec![large.size(LARGE)], more].concat()).into_iter().next()
}

/// A connection is lost, or a server, or a client.
fn strike(world: &mut World, client: usize) {
    let open = world.manager.connections.iter().filter(|(_, upstream)| upstream.is_open);
    let busiest = open.max_by_key(|(_, upstream)| upstream.in_flight).map(|(stream, _)| *stream);
    match (world.random.below(5), busiest) {
        (0 | 1, Some(stream)) => world.close_upstream(stream, true),
        (0..3, _) => {
            let endpoints: Vec<String> = world.manager.endpoints.keys().cloned().collect();
            let endpoint = world.random.pick(&endpoints).clone();
            world.kill(&endpoint);
            world.after(Duration::from_millis(50), move |world| world.set_endpoint(&endpoint, Endpoint::Up));
        }
        _ if world.can_call(client) => world.leave(client),
        _ => {}
    }
}

/// Of a client that has left only that arrives which was written before: no more than may be in flight.
pub fn check_leavers(world: &World, scene: &Scene) {
    if !scene.is_besieged || scene.most_calls > 2 {
        return;
    }
    for (number, client) in world.proxy.clients.iter().enumerate() {
        let Some(left_at) = client.left_at else { continue };
        let calls = world.calls.iter().filter(|call| call.client == number && !call.ask.is_one_way);
        let first =
            |call: &Call| call.deliveries.iter().find(|delivery| !is_copy(&delivery.endpoint)).cloned();
        let late = calls.filter(|call| first(call).is_some_and(|first| first.at > left_at)).count();
        assert!(
            late <= 6 * scene.most_calls as usize,
            "{late} calls of client {number} came after it had left"
        );
    }
}
