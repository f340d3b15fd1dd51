//! Ports that carry several protocols, and what no protocol knows: servers that speak first, clients that begin slowly, and
//! strangers of which every byte comes back.

use std::rc::Rc;
use std::time::Duration;

use crate::random::Random;
use crate::scene::Scene;
use crate::servers::{Policy, STRANGE};
use crate::toy::WIDE;
use crate::wire::Message;
use crate::world::World;

/// What servers of mail say first. It is strange, too.
const GREETING: &[u8] = b"SMTP, or something like it\r\n";

/// What strangers say, as far as they get.
fn words(len: usize) -> Vec<u8> {
    (0..len).map(|at| if at == 0 { STRANGE } else { (at * 31) as u8 }).collect()
}

/// Servers that greet their clients, servers that want signs of life of them, and strangers.
pub fn come(world: &mut World, scene: &Scene, random: &mut Random) {
    for (name, endpoints, greeting) in [
        ("mail", ["10.0.2.1:25", "10.0.2.2:25"], GREETING.to_vec()),
        ("beats", ["10.0.3.1:20880", "10.0.3.2:20880"], world.wire.bytes(&Message::Heartbeat { id: 5 })),
    ] {
        world.cluster(name, &endpoints, Policy::Random);
        for endpoint in endpoints {
            world.manager.greetings.insert(endpoint.to_owned(), greeting.clone());
        }
    }
    for _ in 0..random.below(4) {
        let service = *random.pick(&["demo", "mail"]);
        let mut said: Vec<usize> = (0..1 + random.below(4)).map(|_| random.size(5000)).collect();
        said.sort_unstable();
        let mut times: Vec<Duration> = said.iter().map(|_| scene.in_span(random)).collect();
        times.sort_unstable();
        world.after(times[0] / 2, move |world| {
            let client = world.connect_to(service, service);
            world.proxy.clients[client].raw = Some(Vec::new());
            let mut last = 0;
            for (time, end) in times.into_iter().zip(said) {
                let bytes = words(end).split_off(last);
                last = end;
                world.after(time, move |world| {
                    if world.can_call(client) {
                        world.write(client, &bytes);
                        world.proxy.clients[client].said = end;
                    }
                });
            }
        });
    }
}

/// Connects a client that makes calls, in one of the protocols that its service may have.
pub fn connect(world: &mut World) -> usize {
    let service = *world.random.pick(&["demo", "demo", "beats"]);
    let client = world.connect_to(service, service);
    if service == "beats" {
        world.proxy.clients[client].hears_server = true;
    } else if world.random.chance(0.5) {
        world.proxy.clients[client].wire = Rc::new(&WIDE);
    }
    client
}

/// Writes bytes that may be the first of a client: some of them at first, the rest a little later.
pub fn write_slowly(world: &mut World, client: usize, mut bytes: Vec<u8>) {
    let rest = bytes.split_off(world.random.below(bytes.len()));
    world.write(client, &bytes);
    world.proxy.clients[client].has_stopped = true;
    let later = Duration::from_millis(world.random.between(0..300));
    world.after(later, move |world| {
        world.proxy.clients[client].has_stopped = false;
        if world.can_call(client) {
            world.write(client, &rest);
        }
    });
}

/// Strangers got back what they said, in its order, behind what the server said first.
pub fn check(world: &World, scene: &Scene) {
    for (number, client) in world.proxy.clients.iter().enumerate() {
        let Some(heard) = &client.raw else { continue };
        let greeting = if heard.starts_with(&GREETING[..1 + heard.len().min(1)]) { GREETING } else { &[] };
        let whole = [greeting, &words(client.said)].concat();
        assert!(whole.starts_with(heard), "stranger {number} heard {heard:?}");
        assert!(
            !scene.is_calm || whole.len() == heard.len(),
            "stranger {number}: {} of {}",
            heard.len(),
            whole.len()
        );
    }
}
