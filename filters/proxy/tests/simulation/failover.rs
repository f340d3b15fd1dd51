//! Zones that step in for others, as Envoy's priorities have it: it may be asked for any endpoint of the cluster by name, and
//! chooses those of one zone by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::servers::Policy;
use crate::world::{Ask, Setup, World};

const NEAR: [&str; 2] = ["10.0.0.1:20880", "10.0.0.2:20880"];
const FAR: [&str; 2] = ["10.1.0.1:20880", "10.1.0.2:20880"];
const ALL: [&str; 4] = [NEAR[0], NEAR[1], FAR[0], FAR[1]];

/// Calls, one in a while, for so many seconds: where they went.
fn calls(world: &mut World, client: usize, seconds: u64) -> BTreeSet<String> {
    let mut endpoints = BTreeSet::new();
    for _ in 0..10 * seconds {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].error(), None);
        endpoints.insert(world.calls[call].endpoint().unwrap().to_owned());
        world.run_for(Duration::from_millis(100));
    }
    endpoints
}

#[test]
fn another_zone_gets_the_calls_while_the_own_is_away_and_no_longer() {
    let of = |zone: [&str; 2]| BTreeSet::from(zone.map(str::to_owned));
    for seed in 1..=20 {
        let mut world = World::new(Setup { seed, ..Setup::default() });
        world.cluster("demo", &ALL, Policy::FirstTwo);
        let client = world.connect();
        assert_eq!(calls(&mut world, client, 100), of(NEAR), "seed {seed}");
        world.cluster("demo", &FAR, Policy::Random);
        NEAR.iter().for_each(|endpoint| world.kill(endpoint));
        assert_eq!(calls(&mut world, client, 200), of(FAR), "seed {seed}");
        world.cluster("demo", &ALL, Policy::FirstTwo);
        // Within a renewal the own zone takes part, and some renewals later the other does not any more.
        let is_left = |world: &World| FAR.iter().all(|far| world.manager.streams_to(far).is_empty());
        let seconds = (0..180).find(|_| {
            calls(&mut world, client, 1);
            is_left(&world)
        });
        assert!(seconds.is_some(), "seed {seed}");
        assert_eq!(calls(&mut world, client, 200), of(NEAR), "seed {seed}");
    }
}
