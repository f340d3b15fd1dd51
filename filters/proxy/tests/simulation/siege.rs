//! Clients that mean harm: they have all the calls that they may and garbage behind them, or more than is kept of one
//! client; then a server goes, or they do, and what all of them wait for happens at once.

use std::time::Duration;

use crate::random::Random;
use crate::scene::Scene;
use crate::servers::Endpoint;
use crate::world::{Ask, World};

/// Just what is kept of one client's requests before it is not read further.
const LARGE: usize = 4 << 20;

/// Three clients come, and get in each other's way.
pub fn lay_siege(world: &mut World, most_calls: u64) {
    if world.proxy.is_refused {
        return;
    }
    let [breaker, hoarder, third] = [world.connect(), world.connect(), world.connect()];
    let pause = |world: &mut World| Duration::from_micros(world.random.between(1..2000));
    // As many as may be in flight, so that what comes behind them is not read.
    let most = most_calls.min(40) as usize;
    let first = 1 + world.random.below(most);
    let more = asks(&mut world.random, first);
    world.call_all(breaker, more);
    let after = pause(world);
    world.after(after, move |world| hoard(world, hoarder));
    // A large frame takes its time.
    let after = Duration::from_millis(world.random.between(1..30));
    world.after(after, move |world| {
        if world.can_call(breaker) {
            let count = most + 1 - first;
            let more = asks(&mut world.random, count);
            world.call_all(breaker, more);
            if world.random.chance(0.5) {
                world.break_off(breaker);
            }
        }
        let after = pause(world);
        world.after(after, move |world| strike(world, breaker));
        let after = after + pause(world);
        world.after(after, move |world| {
            if world.can_call(third) {
                let more = asks(&mut world.random, 6);
                world.call_all(third, more);
            }
        });
    });
}

fn asks(random: &mut Random, count: usize) -> Vec<Ask> {
    let ask = |random: &mut Random| match random.chance(0.2) {
        true => Ask::new("log").one_way(),
        false => Ask::new("echo"),
    };
    (0..count).map(|_| ask(random)).collect()
}

/// A large request, and small ones behind it.
fn hoard(world: &mut World, client: usize) {
    if !world.can_call(client) {
        return;
    }
    let large = match world.random.chance(0.5) {
        true => Ask::new("log").one_way(),
        false => Ask::new("echo"),
    };
    let count = 2 + world.random.below(6);
    let more = asks(&mut world.random, count);
    world.call_all(client, [vec![large.size(LARGE)], more].concat());
}

/// A server goes, or a client.
fn strike(world: &mut World, client: usize) {
    if world.random.chance(0.4) {
        if world.can_call(client) {
            world.leave(client);
        }
        return;
    }
    let endpoints: Vec<String> = world.manager.endpoints.keys().cloned().collect();
    let endpoint = world.random.pick(&endpoints).clone();
    world.kill(&endpoint);
    world.after(Duration::from_millis(50), move |world| world.set_endpoint(&endpoint, Endpoint::Up));
}

/// Of a client that has left only that arrives which was written before: no more than may be in flight.
pub fn check_leavers(world: &World, scene: &Scene) {
    if !scene.is_besieged || scene.most_calls > 2 {
        return;
    }
    for (number, client) in world.proxy.clients.iter().enumerate() {
        let Some(left_at) = client.left_at else { continue };
        let calls = world.calls.iter().filter(|call| call.client == number && !call.ask.is_one_way);
        let late =
            calls.filter(|call| call.deliveries.first().is_some_and(|first| first.at > left_at)).count();
        assert!(
            late <= 6 * scene.most_calls as usize,
            "{late} calls of client {number} came after it had left"
        );
    }
}
