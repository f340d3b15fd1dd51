//! Plans that come while there are calls.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::stream::Stream;

/// A plan that takes many steps to be read.
fn large_plan(route: &str) -> String {
    let route = |number| {
        format!(
            r#"{{"name": "{route}{number}", "match": [{{"attributes": {{"method": {{"exact": "m"}}}}}}]}}"#
        )
    };
    let routes: Vec<String> = (0..4000).map(route).collect();
    format!(r#"{{"services": {{"demo": {{"protocol": "dubbo", "routes": [{}]}}}}}}"#, routes.join(","))
}

/// A VM that has a connection, and little time for everything else.
fn busy(json: &str) -> (Root, Stream) {
    host::with(|host| (host.uptime, host.pace) = (Some(0), 1_000_000));
    let (root, _) = configure(json);
    let mut stream = root.stream();
    let size = host::set(Buffer::Downstream, PREFACE);
    stream.carry(Side::Downstream, size);
    (root, stream)
}

/// How many looks it takes until a plan of this text is in force.
fn looks(root: &mut Root, json: &str) -> usize {
    (0..1000).take_while(|_| text_after_a_while(root) != json.as_bytes()).count()
}

#[test]
fn calls_have_the_worker_while_a_plan_is_read() {
    let [small, other] = ["a", "b"].map(plan);
    let [large, larger] = ["c", "d"].map(large_plan);
    let (mut old, _stream) = busy(&small);
    let (mut root, is_accepted) = configure(&large);
    assert!(is_accepted);
    assert_eq!(root.plan_text(), small.as_bytes());
    assert!((5..1000).contains(&looks(&mut root, &large)), "a few routes at a time");

    // Whichever root context is called, and whoever brings it.
    elsewhere({
        let larger = larger.clone();
        move || drop(configure(&larger))
    });
    assert!((5..1000).contains(&looks(&mut old, &larger)));

    // The newer one is in force, though the older takes longer.
    let _older = configure(&large);
    let (mut newer, _) = configure(&other);
    assert_eq!(looks(&mut newer, &other), 0);
    assert_eq!(looks(&mut newer, &large), 1000);
    assert_eq!(root.plan_text(), other.as_bytes());
}

#[test]
fn a_bad_plan_leaves_calls_the_one_that_they_have() {
    let good = plan("a");
    let (mut root, _stream) = busy(&good);
    let bad = large_plan("c").replacen("c3999", "c0", 1);
    configure(&bad);
    let is_told = |(_, line): &(u32, String)| line.contains(r#"routes[3999].name: "c0""#);
    let mut look = |_| {
        root.look();
        host::with(|host| host.log.iter().any(is_told))
    };
    assert!((0..1000).any(&mut look));
    assert_eq!(root.plan_text(), good.as_bytes());
}

/// How often the log says that a plan has come into force.
fn activations() -> usize {
    host::with(|host| host.log.iter().filter(|(_, line)| line.contains("is now active")).count())
}

/// As the controller writes a service of more than 64 KiB.
fn packed_plan(route: &str, count: usize) -> String {
    let routes: Vec<String> = (0..count)
        .map(|n| {
            format!(
                r#"{{"name": "{route}{n}", "match": [{{"attributes": {{"method": {{"exact": "m{n}"}}}}}}]}}"#
            )
        })
        .collect();
    let service = format!(r#"{{"protocol": "dubbo", "routes": [{}]}}"#, routes.join(","));
    let mut writer = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::default());
    writer.write_all(service.as_bytes()).unwrap();
    let text = BASE64_STANDARD.encode(writer.finish().unwrap());
    format!(r#"{{"services": {{"demo": "{text}"}}}}"#)
}

#[test]
fn calls_have_the_worker_while_a_packed_plan_is_read() {
    let (_root, _stream) = busy(&plan("a"));
    let large = packed_plan("c", 10_000);
    let (mut root, _) = configure(&large);
    assert!(looks(&mut root, &large) >= 5, "10000 routes were read at once");
}

#[test]
fn a_bad_plan_does_not_lose_the_one_of_another_vm_that_is_being_read() {
    let (mut root, _stream) = busy(&plan("a"));
    let large = large_plan("c");
    elsewhere({
        let large = large.clone();
        move || drop(configure(&large))
    });
    root.look();
    let (mut other, is_accepted) = configure("{}}");
    assert!(!is_accepted);
    assert!(looks(&mut root, &large) + looks(&mut other, &large) < 1000, "it is never in force");
}

/// The one that is being read was checked, and so published, by Envoy's main thread first.
#[test]
fn a_plan_that_was_overtaken_does_not_come_after_the_newer_one() {
    let (_root, _stream) = busy(&plan("a"));
    let (large, newer) = (large_plan("c"), plan("b"));
    elsewhere({
        let large = large.clone();
        move || drop(configure(&large))
    });
    let _overtaken = configure(&large);
    let (mut root, _) = configure(&newer);
    assert_eq!(root.plan_text(), newer.as_bytes());
    assert_eq!(looks(&mut root, &large), 1000, "the older one came into force after the newer one");
}

/// The configuration comes back, so that the worker has its root context still, and hears nothing.
#[test]
fn a_plan_that_was_replaced_while_it_was_read_is_not_put_in_force() {
    let (a, large) = (plan("a"), large_plan("c"));
    let (mut root, _stream) = busy(&a);
    elsewhere({
        let [a, large] = [a.clone(), large.clone()];
        move || [&large, &a].into_iter().for_each(|plan| drop(configure(plan)))
    });
    drop(configure(&large));
    // Every 200 ms.
    let looks = looks(&mut root, &large);
    assert_eq!(looks, 1000, "in force {} ms after it was replaced", looks * 200);
}

#[test]
fn a_plan_whose_root_context_is_gone_is_read_as_fast() {
    let large = large_plan("c");
    let (mut root, _stream) = busy(&plan("a"));
    drop(configure(&large));
    host::with(|host| host.ticks.clear());
    let looks = looks(&mut root, &large);
    let asked = host::with(|host| host.ticks.clone());
    assert!(looks < 3 || asked.contains(&1), "{looks} looks, one each 200 ms");
}

#[test]
fn a_plan_is_read_however_the_clock_goes() {
    for pace in [0, 1, 1_000_000, 2_000_000, 1_000_000_000] {
        let (_root, _stream) = busy(&plan("a"));
        let large = large_plan(&format!("at{pace}x"));
        host::with(|host| host.pace = pace);
        let (mut root, _) = configure(&large);
        assert!(looks(&mut root, &large) < 1000, "with {pace} ns a look");
    }
}

#[test]
fn a_plan_comes_into_force_once() {
    let (mut root, _stream) = busy(&plan("a"));
    let large = large_plan("c");
    elsewhere({
        let large = large.clone();
        move || drop(configure(&large))
    });
    // It is found before its configuration comes.
    looks(&mut root, &large);
    assert_eq!(activations(), 2);
    let (mut other, _) = configure(&large);
    (0..100).for_each(|_| other.look());
    assert_eq!(activations(), 2);
}

#[test]
fn whatever_order_the_last_configuration_wins_with_main_thread_first() {
    let mut random = 0x9e37_79b9_u64;
    let mut next = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let plans = [plan("a"), plan("b"), large_plan("c"), large_plan("d"), String::new()];
    for _ in 0..40 {
        let (root, _stream) = busy(&plans[0]);
        let mut roots = vec![root];
        let mut last = 0;
        for _ in 0..next(6) + 1 {
            last = next(5) as usize;
            let text = plans[last].clone();
            elsewhere(move || drop(configure(&text)));
            if next(4) > 0 {
                (0..next(6)).for_each(|_| roots[0].look());
                roots.push(configure(&plans[last]).0);
            }
            for _ in 0..next(30) {
                let at = next(roots.len() as u64) as usize;
                roots[at].look();
            }
            if roots.len() > 1 && next(3) == 0 {
                roots.remove(next(roots.len() as u64) as usize);
            }
        }
        for _ in 0..300 {
            roots.iter_mut().for_each(Root::look);
        }
        assert_eq!(roots[0].plan_text().len(), plans[last].len());
        assert_eq!(roots[0].plan_text(), plans[last].as_bytes());
    }
}

#[test]
fn ticks_are_slow_again() {
    let last = || host::with(|host| host.ticks.last().copied());
    let (mut first, _stream) = busy(&plan("a"));
    let large = large_plan("c");
    let (mut second, _) = configure(&large);
    assert_eq!(last(), Some(1));
    looks(&mut first, &large);
    first.look();
    second.look();
    assert_eq!(last(), Some(200));
    let (mut third, _) = configure(&large_plan("d"));
    assert_eq!(last(), Some(1));
    configure(&plan("b"));
    third.look();
    third.look();
    assert_eq!(last(), Some(200));
}

/// What it would find is older than that.
#[test]
fn a_vm_whose_first_plan_is_bad_looks_for_no_other() {
    elsewhere(|| drop(configure(&plan("old"))));
    let (_, is_accepted) = configure("{}}");
    assert!(!is_accepted);
    assert!(host::with(|host| host.ticks.is_empty()));
}
