use core::time::Duration;
use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);

const RULE: AdaptiveConcurrency = AdaptiveConcurrency {
    percentile: 50,
    update_interval: Duration::from_millis(100),
    measure_interval: Duration::from_secs(60),
    measured_calls: 5,
    jitter: 15,
    least: 3,
    buffer: 25,
    most: 200,
};

fn at(millis: u32) -> Instant {
    Instant::default().after(MS.saturating_mul(millis))
}

/// Answers that took so many milliseconds come at that time; the limit then.
fn answers(concurrency: &mut Concurrency, count: usize, took: u32, millis: u32) -> usize {
    (0..count)
        .for_each(|_| concurrency.note(at(millis.saturating_sub(took)), false, 0, &RULE, at(millis), 0));
    concurrency.limit()
}

/// What has measured ten milliseconds as the least time, ten milliseconds after a second.
fn measured() -> Concurrency {
    let mut concurrency = Concurrency::new(&RULE, at(1000));
    assert_eq!(answers(&mut concurrency, 5, 10, 1010), 3);
    assert_eq!(concurrency.before, None);
    concurrency
}

#[test]
fn the_least_time_is_measured_over_answers_that_tell_it() {
    let mut concurrency = Concurrency::new(&RULE, at(1000));
    answers(&mut concurrency, 50, 20, 1010);
    assert_eq!(concurrency.before, Some(3), "they were sent before");
    (0..50).for_each(|_| concurrency.note(at(1000), true, 0, &RULE, at(1010), 0));
    assert_eq!(concurrency.before, Some(3), "they were late");
    (0..50).for_each(|_| concurrency.note(at(1005), false, 3, &RULE, at(1006), 0));
    assert_eq!(concurrency.before, Some(3), "others were in flight");
    (0..50).for_each(|_| concurrency.note(at(1005), false, 2, &RULE, at(1010), 0));
    assert_eq!(concurrency.before, Some(3), "others were when they were sent");
    answers(&mut concurrency, 4, 4, 1010);
    let mut concurrency = Concurrency::new(&RULE, at(1000));
    answers(&mut concurrency, 4, 10, 1010);
    assert_eq!(concurrency.before, Some(3));
    answers(&mut concurrency, 1, 10, 1010);
    assert_eq!(concurrency.before, None);
    assert!((9_400..10_200).contains(&concurrency.least), "{}", concurrency.least);
}

#[test]
fn the_limit_grows_by_the_buffer_and_the_root_while_answers_come_in_time() {
    let mut concurrency = measured();
    let limits: Vec<_> = (0..40).map(|n| answers(&mut concurrency, 3, 10, 1120 + n * 110)).collect();
    assert_eq!(limits[..8], [3, 4, 7, 10, 15, 22, 32, 46]);
    assert_eq!(limits[39], 200);
    // Twice as long: five eighths, and the root of that.
    assert_eq!(answers(&mut concurrency, 3, 20, 6000), 200, "of answers that came until then");
    assert_eq!(answers(&mut concurrency, 3, 20, 6110), 136);
    // Never less than half at a time.
    (0..9).for_each(|_| concurrency.note(at(1000), true, 0, &RULE, at(6200), 0));
    assert_eq!(answers(&mut concurrency, 1, 20, 6300), 68 + 8);
}

#[test]
fn what_is_given_up_early_does_not_make_the_limit_grow() {
    for (took, limit) in [(5, 3), (12, 3), (13, 3), (40, 3)] {
        let mut concurrency = measured();
        for n in 0..4 {
            let now = 1120 + n * 110;
            (0..9).for_each(|_| concurrency.note(at(now - took), true, 0, &RULE, at(now), 0));
            assert_eq!(concurrency.limit(), limit, "{took}");
        }
        assert_eq!(concurrency.at_least > 0, took > 12, "{took}");
    }
}

#[test]
fn a_window_without_answers_changes_nothing() {
    let mut concurrency = measured();
    answers(&mut concurrency, 3, 10, 1100);
    for n in 0..20 {
        concurrency.keep_time(&RULE, at(1110 + n * 100));
        assert_eq!(concurrency.limit(), 4);
    }
}

#[test]
fn the_least_time_is_measured_again_some_time_later() {
    for (random, percent) in [(0, 0), (15, 15), (16, 0), (7, 7)] {
        let mut concurrency = Concurrency::new(&RULE, at(1000));
        (0..5).for_each(|_| concurrency.note(at(1000), false, 0, &RULE, at(1010), random));
        answers(&mut concurrency, 3, 10, 1100);
        let again = 1010 + 60_000 + 600 * percent;
        concurrency.keep_time(&RULE, at(again - 1));
        let before = concurrency.limit();
        assert!(before > 3 && concurrency.before.is_none());
        concurrency.keep_time(&RULE, at(again));
        assert_eq!((concurrency.limit(), concurrency.before), (3, Some(before)));
        assert_eq!(answers(&mut concurrency, 5, 20, again + 100), before, "as it was");
    }
}

#[test]
fn a_limit_that_stays_the_least_has_the_least_time_doubted() {
    let mut concurrency = measured();
    // The server is slower for good.
    for n in 0..6 {
        assert_eq!(answers(&mut concurrency, 3, 50, 1200 + n * 100), 3);
        assert_eq!(concurrency.before, (n == 5).then_some(3), "{n}");
    }
    assert_eq!(answers(&mut concurrency, 5, 50, 1900), 3);
    answers(&mut concurrency, 3, 50, 2000);
    assert!(answers(&mut concurrency, 3, 50, 2100) > 3);
}

#[test]
fn another_rule_has_its_own_bounds() {
    let mut concurrency = measured();
    concurrency.follow(&AdaptiveConcurrency { least: 20, ..RULE });
    assert_eq!(concurrency.limit(), 20);
    concurrency.follow(&AdaptiveConcurrency { most: 10, ..RULE });
    assert_eq!(concurrency.limit(), 10);
}

/// A server that works on so many calls at a time, each for ten milliseconds, in their order.
struct Server {
    workers: usize,
    queue: VecDeque<Instant>,
    /// When calls were sent that are worked on, and until when.
    working: VecDeque<(Instant, Instant)>,
}

impl Server {
    fn in_flight(&self) -> usize {
        self.queue.len().saturating_add(self.working.len())
    }

    /// Calls that end by now: when they were sent.
    fn step(&mut self, now: Instant) -> Vec<Instant> {
        let mut ended = Vec::new();
        while self.working.front().is_some_and(|(_, until)| *until <= now) {
            ended.extend(self.working.pop_front().map(|(sent, _)| sent));
        }
        while self.working.len() < self.workers {
            let Some(sent) = self.queue.pop_front() else { break };
            self.working.push_back((sent, now.after(MS.saturating_mul(10))));
        }
        ended
    }
}

#[test]
fn a_server_has_few_more_calls_than_it_can_work_on_and_no_fewer() {
    for workers in [4, 10, 40] {
        let mut server = Server { workers, queue: VecDeque::new(), working: VecDeque::new() };
        let mut concurrency = Concurrency::new(&RULE, at(0));
        let (mut most, mut served, mut slowest) = (0, 0, Duration::ZERO);
        // Twice as many calls as it can work on.
        for millis in 0..50_000 {
            let now = at(millis);
            for sent in server.step(now) {
                concurrency.note(sent, false, 0, &RULE, now, 7);
                if millis > 5000 {
                    served += 1;
                    slowest = slowest.max(now.since(sent));
                }
            }
            for _ in 0..(workers * 2).div_ceil(10) {
                concurrency.keep_time(&RULE, now);
                if server.in_flight() < concurrency.limit() {
                    server.queue.push_back(now);
                }
            }
            server.step(now);
            if millis > 5000 {
                most = most.max(server.in_flight());
            }
        }
        assert!(most <= workers * 2 + 4, "{workers}: {most}");
        assert!(slowest <= 30 * MS, "{workers}: {slowest:?}");
        // 45 seconds of a hundred calls each, for each that works.
        let capacity = workers * 4500;
        assert!(served * 10 >= capacity * 9, "{workers}: {served} of {capacity}");
    }
}

#[test]
fn times_are_told_apart_to_a_sixteenth() {
    assert_eq!((bucket(0), bucket(31), bucket(32), bucket(u64::MAX)), (0, 31, 32, BUCKETS - 1));
    for units in (1..1 << 26).step_by(4099) {
        let place = bucket(units);
        assert!(place < BUCKETS - 1 && middle(place).abs_diff(units) * 32 <= units, "{units}");
        assert_eq!(bucket(middle(place)), place);
    }
    let mut samples = Samples::default();
    assert_eq!(samples.take(50), None);
    (0..100).for_each(|n| samples.add(at(0), at(n + 1)));
    let near = |time: Option<u64>, millis: u64| {
        let units = (millis * 1_000_000) >> UNIT;
        time.unwrap().abs_diff(units) * 20 < units
    };
    let mut copy = Samples { buckets: samples.buckets.clone(), total: samples.total };
    assert!(near(copy.take(100), 100) && near(samples.take(90), 90));
    assert_eq!(samples.take(90), None);
}
