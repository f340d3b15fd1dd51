use std::rc::Rc;

use meltemi_codecs::{Codecs, Failure, Frame, Kind};

use super::*;
use crate::source::Source;

const MS: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Instant {
    Instant::default().after(Duration::from_millis(millis))
}

/// What was told, in its order.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn tell(&mut self, metric: Metric, labels: Option<&Labels>, n: impl core::fmt::Display) {
        let name = match labels {
            None => String::new(),
            Some(Labels::Operation(label)) => format!("{}.{} ", label.service, label.method),
            Some(Labels::Source { service, principal }) => format!("{principal} to {service} "),
            Some(Labels::Destination { service, workload, principal }) => {
                format!("{service} of {workload} as {principal} ")
            }
            Some(Labels::Route { authority, route }) => format!("{authority} by {route} "),
        };
        self.0.push(format!("{name}{metric:?} {n}"));
    }
}

impl Sink for Told {
    fn count(&mut self, metric: Metric, labels: Option<&Labels>, n: u64) {
        self.tell(metric, labels, n);
    }

    fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64) {
        self.tell(metric, labels, format!("{change:+}"));
    }

    fn log(&mut self, reply: &LocalReply) {
        self.0.push(reply.detail.clone());
    }
}

/// The record of a call that began at the start and ended so.
fn record(id: OperationId, source: Option<PeerId>, end: End) -> Record {
    let plan = br#"{"services": {"demo": {"protocol": "dubbo"}}}"#;
    let plan = crate::plan::Plan::parse(plan, &Codecs::all()).unwrap();
    let frame = Frame { len: 64, head: 16, kind: Kind::Request, id: 7 };
    let source = source.map(|id| {
        let mut source = Source::default();
        source.id = Some(id);
        Rc::new(source)
    });
    let record = Record::new(plan.service("demo").unwrap().clone(), source, id, frame, at(0));
    Record { end: Some(end), ..record }
}

/// A call ends that has no answer.
fn end(telemetry: &mut Telemetry, id: OperationId, source: Option<PeerId>, most: usize) {
    telemetry.ended(&record(id, source, End::Sent), at(0), most);
}

fn time(telemetry: &mut Telemetry, id: OperationId, took: Duration) {
    telemetry.touch(id).unwrap().latencies.record(took);
}

#[test]
fn a_call_is_counted_by_its_record() {
    let source = Some(Telemetry::default().source("x", 5));
    let ends = [
        (End::Answered(Outcome::Exception), vec!["A.a Responses(Exception) 1"], 1),
        (End::Failed(Failure::Timeout), vec![], 1),
        (End::Cancelled, vec!["A.a Cancelled 1"], 0),
        (End::Sent, vec![], 0),
    ];
    for (end, counted, timed) in ends {
        let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
        let id = telemetry.operation("A", "a", true, 5);
        telemetry.begin(id, None, 5);
        let ended = Record {
            destination: Some(telemetry.destination("w", "p", 5)),
            is_delayed: true,
            retries: 2,
            timeouts: 1,
            resets: 3,
            ..record(id, source, end)
        };
        telemetry.ended(&ended, at(2), 5);
        telemetry.flush_counts(&mut told);
        let latencies = told.0.iter().filter(|line| line.contains("LatencyCount")).count();
        assert_eq!(latencies, timed);
        told.0.retain(|line| !line.contains("Latency"));
        told.0.sort();
        let mut all = vec![
            "A of w as p DestinationRequests 1",
            "A.a Delays 1",
            "A.a Requests 1",
            "A.a Resets 3",
            "A.a Retries 2",
            "A.a Timeouts 1",
        ];
        all.extend(counted);
        all.sort_unstable();
        assert_eq!(told.0, all);
    }
}

#[test]
fn operations_beyond_the_most_are_counted_as_other() {
    let mut telemetry = Telemetry::default();
    let known = [telemetry.operation("A", "a", true, 2), telemetry.operation("A", "b", true, 2)];
    let other = telemetry.operation("A", "c", true, 2);
    assert_eq!([telemetry.operation("A", "a", true, 2), telemetry.operation("A", "b", true, 2)], known);
    assert_eq!(telemetry.operation("B", "a", true, 2), other);
    assert_eq!(telemetry.label(other), Label { service: "other".into(), method: "other".into() });
    // A new plan may allow more.
    assert_ne!(telemetry.operation("B", "a", true, 9), other);
}

#[test]
fn names_from_the_wire_are_cut_and_never_empty() {
    let mut telemetry = Telemetry::default();
    let long = "é".repeat(100);
    let id = telemetry.operation(&long, "", true, 10);
    let label = telemetry.label(id);
    assert_eq!((&*label.service, &*label.method), (&*"é".repeat(64), "-"));
    assert_eq!(telemetry.operation(&"é".repeat(65), "-", true, 10), id);
}

#[test]
fn counts_gather_until_they_are_due() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", true, 10);
    assert_eq!(telemetry.due(), None);
    telemetry.flush(at(1000), &mut told);
    telemetry.add(id, Metric::Requests, 1);
    telemetry.add_global(Metric::Heartbeats, 1);
    telemetry.flush(at(1000), &mut told);
    assert_eq!(told.0, ["Heartbeats 1", "A.a Requests 1"], "nothing was told for long");
    told.0.clear();
    telemetry.add(id, Metric::Requests, 1);
    telemetry.add(id, Metric::Requests, 1);
    assert_eq!(telemetry.due(), Some(at(1250)));
    telemetry.flush(at(1249), &mut told);
    assert!(told.0.is_empty());
    telemetry.flush(at(1250), &mut told);
    assert_eq!(told.0, ["A.a Requests 2"]);
    assert_eq!(telemetry.due(), None);
}

#[test]
fn requests_are_counted_by_service_and_identity() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let operations = [("A", "a"), ("A", "b"), ("B", "a")];
    let [a, other_a, b] = operations.map(|(service, method)| telemetry.operation(service, method, true, 10));
    let [x, y, again] = ["x", "y", "x"].map(|principal| telemetry.source(principal, 10));
    assert_eq!(x, again);
    for (operation, source) in [(a, x), (other_a, x), (a, y), (b, x), (a, x)] {
        telemetry.add_source(operation, source, 1, 10);
    }
    assert!(telemetry.due().is_some());
    telemetry.flush_counts(&mut told);
    let counted = ["x to A SourceRequests 3", "y to A SourceRequests 1", "x to B SourceRequests 1"];
    assert_eq!(told.0, counted);
    assert_eq!(telemetry.due(), None);
    telemetry.add_source(b, x, 1, 10);
    telemetry.flush_counts(&mut told);
    assert_eq!(told.0[3..], ["x to B SourceRequests 1"]);
}

#[test]
fn responses_are_counted_by_service_workload_and_identity() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let a = telemetry.operation("A", "a", true, 10);
    let known = [("v1", "x"), ("v2", "x"), ("", "x")];
    let peers = known.map(|(workload, principal)| telemetry.destination(workload, principal, 3));
    let late = telemetry.destination("v3", "y", 3);
    for peer in peers.into_iter().chain([late, late]) {
        telemetry.add_destination(a, peer, 3);
    }
    telemetry.flush_counts(&mut told);
    let counted = ["A of v1 as x", "A of v2 as x", "A of - as x", "other of other as other"];
    let counted: Vec<_> = counted.iter().map(|name| format!("{name} DestinationRequests")).collect();
    let expected: Vec<_> = counted.iter().zip([1, 1, 1, 2]).map(|(name, n)| format!("{name} {n}")).collect();
    assert_eq!(told.0, expected);
    assert_eq!(telemetry.due(), None);
}

#[test]
fn identities_beyond_the_most_are_counted_as_other() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let [a, b] = ["A", "B"].map(|service| telemetry.operation(service, "m", true, 10));
    let [x, y, z] = ["x", "y", "z"].map(|principal| telemetry.source(principal, 2));
    for operation in [a, b] {
        for source in [x, y, z] {
            telemetry.add_source(operation, source, 1, 3);
        }
    }
    telemetry.flush_counts(&mut told);
    let counted =
        ["x to A", "y to A", "other to other", "x to B"].map(|pair| format!("{pair} SourceRequests"));
    let counts = [1, 1, 3, 1];
    let counted: Vec<_> = counted.iter().zip(counts).map(|(pair, n)| format!("{pair} {n}")).collect();
    assert_eq!(told.0, counted);
}

#[test]
fn a_gauge_that_came_back_is_not_told() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", true, 10);
    telemetry.add(id, Metric::InFlight, 1);
    telemetry.add(id, Metric::InFlight, -1);
    telemetry.flush_counts(&mut told);
    telemetry.add(id, Metric::InFlight, 2);
    telemetry.flush_counts(&mut told);
    telemetry.add(id, Metric::InFlight, -2);
    telemetry.flush_counts(&mut told);
    assert_eq!(told.0, ["A.a InFlight +2", "A.a InFlight -2"]);
}

/// Names mean something once a server has answered to them.
#[test]
fn names_that_nobody_answers_to_are_counted_as_other() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let client = telemetry.source("x", 5);
    let source = Some(client);
    for number in 0..1000 {
        let id = telemetry.operation_of_call("scan", &number.to_string(), false, 5);
        assert_eq!(telemetry.operation("scan", &format!("other{number}"), false, 5), OperationId::OTHER);
        telemetry.begin(id, source, 5);
        telemetry.add(id, Metric::Timeouts, 1);
        end(&mut telemetry, id, source, 5);
    }
    let real = [(); 3].map(|()| telemetry.operation_of_call("A", "a", false, 5));
    real.iter().for_each(|id| telemetry.begin(*id, source, 5));
    telemetry.flush_counts(&mut told);
    let scanned = [
        "other.other Timeouts 1000",
        "other.other InFlight +3",
        "other.other Requests 1000",
        "x to other SourceRequests 1000",
    ];
    told.0.sort();
    let mut scanned: Vec<_> = scanned.map(str::to_owned).into();
    scanned.sort();
    assert_eq!(told.0, scanned);
    told.0.clear();
    telemetry.ended(&record(real[1], source, End::Answered(Outcome::Success)), at(1), 5);
    [real[0], real[2]].iter().for_each(|id| end(&mut telemetry, *id, source, 5));
    telemetry.flush_counts(&mut told);
    told.0.retain(|line| !line.contains("Latency"));
    let counted =
        ["other.other InFlight -3", "A.a Requests 3", "A.a Responses(Success) 1", "x to A SourceRequests 3"];
    assert_eq!(told.0, counted);
    let again = telemetry.operation_of_call("A", "a", false, 5);
    assert_eq!(telemetry.label(again), telemetry.label(real[0]));
    assert!(again.was_known());
}

/// Metrics stay for ever: workers that come and go have the same.
#[test]
fn workers_share_the_names_that_there_can_be() {
    let names = Names::default();
    let mut told = Told::default();
    for (worker, method) in ["a", "b", "c", "b"].into_iter().enumerate() {
        let mut telemetry = Telemetry::default();
        telemetry.share(&names);
        let id = telemetry.operation_of_call("A", method, false, 2);
        let source = Some(telemetry.source(&format!("client{worker}"), 2));
        telemetry.begin(id, source, 2);
        telemetry.make_known(id, 2);
        end(&mut telemetry, id, source, 2);
        telemetry.flush_counts(&mut told);
    }
    told.0.retain(|line| line.contains("Requests"));
    let counted = [
        "A.a Requests 1",
        "client0 to A SourceRequests 1",
        "A.b Requests 1",
        "client1 to A SourceRequests 1",
        "other.other Requests 1",
        "other to other SourceRequests 1",
        "A.b Requests 1",
        "other to other SourceRequests 1",
    ];
    assert_eq!(told.0, counted);
}

#[test]
fn what_a_route_names_is_known() {
    let mut telemetry = Telemetry::default();
    let id = telemetry.operation_of_call("A", "a", false, 5);
    telemetry.begin(id, None, 5);
    telemetry.operation("A", "a", true, 5);
    end(&mut telemetry, id, None, 5);
    assert!(telemetry.operation_of_call("A", "a", false, 5).was_known());
}

/// What Prometheus's `histogram_quantile` gives for counts of buckets, in the order of their bounds.
fn quantile(q: f64, buckets: &[(f64, f64)]) -> f64 {
    let rank = q * buckets.last().unwrap().1;
    let place = buckets.iter().position(|(_, count)| *count >= rank).unwrap();
    let (start, below) = place.checked_sub(1).map_or((0.0, 0.0), |before| buckets[before]);
    let (end, count) = buckets[place];
    start + (end - start) * (rank - below) / (count - below)
}

#[test]
fn quantiles_are_right_from_the_first_answer_on() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", true, 10);
    for took in [1100, 1500, 2000, 2400] {
        time(&mut telemetry, id, took * MS / 1000);
    }
    telemetry.flush_counts(&mut told);
    let buckets = told.0.iter().filter_map(|line| {
        let (bound, count) = line.strip_prefix("A.a LatencyBucket(Some(")?.split_once(")) ")?;
        Some((bound.parse().unwrap(), count.parse().unwrap()))
    });
    let buckets: Vec<(f64, f64)> = buckets.collect();
    assert_eq!(buckets.len(), LATENCY_BUCKETS.len());
    assert_eq!(quantile(0.5, &buckets), 1750.0);
}

#[test]
fn calls_are_counted_by_their_route() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", true, 10);
    let taken = record(id, None, End::Sent);
    let route = |name: &str| {
        let plan = format!(
            r#"{{"services": {{"demo": {{"protocol": "dubbo", "routes": [
                {{"name": "{name}", "match": [{{"attributes": {{"method": {{"exact": "a"}}}}}}], "cluster": "v1"}}]}}}}}}"#
        );
        let plan = crate::plan::Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap();
        plan.service("demo").unwrap().routes().next().unwrap().clone()
    };
    let by = |name: &str| Record { route: Some(route(name)), ..record(id, None, End::Sent) };
    let canary = by("canary");
    for _ in 0..3 {
        telemetry.ended(&canary, at(0), 1);
    }
    telemetry.request(&canary, 1);
    telemetry.ended(&by("second"), at(0), 1);
    telemetry.ended(&taken, at(0), 1);
    telemetry.flush_counts(&mut told);
    told.0.retain(|line| line.contains("Route"));
    assert_eq!(told.0, ["demo by canary RouteRequests 4", "other by other RouteRequests 1"]);
    told.0.clear();
    assert_eq!(telemetry.due(), None);
    telemetry.ended(&canary, at(0), 1);
    telemetry.flush_counts(&mut told);
    assert!(told.0.contains(&"demo by canary RouteRequests 1".to_owned()), "{:?}", told.0);
}

#[test]
fn a_bucket_counts_all_that_took_no_longer() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", true, 10);
    for took in [10 * MS, 10 * MS + MS / 1000, 60_000 * MS] {
        time(&mut telemetry, id, took);
    }
    telemetry.flush_counts(&mut told);
    let buckets: Vec<_> = told.0.iter().map(|line| line.trim_start_matches("A.a Latency")).collect();
    let all = LATENCY_BUCKETS.len();
    assert_eq!(buckets[5..8], ["Bucket(Some(5000)) 0", "Bucket(Some(10000)) 1", "Bucket(Some(25000)) 2"]);
    assert_eq!(buckets[all - 1..], ["Bucket(Some(30000000)) 2", "Bucket(None) 3", "Count 3", "Sum 60020001"]);
    told.0.clear();
    telemetry.flush_counts(&mut told);
    assert!(told.0.is_empty());
}

#[test]
fn names_that_nobody_answers_to_are_told_of_no_source() {
    let mut telemetry = Telemetry::default();
    let source = telemetry.source("td/ns/a/sa/b", 10);
    for _ in 0..3 {
        let call = telemetry.operation_of_call("Made", "up", false, 10);
        telemetry.begin(call, Some(source), 10);
        assert_eq!(telemetry.unknown_operations(), 1);
        // A request that is denied while the call is in flight.
        let denied = telemetry.operation("Made", "up", false, 10);
        telemetry.request(&record(denied, Some(source), End::Failed(Failure::Denied)), 10);
        end(&mut telemetry, call, Some(source), 10);
        assert_eq!(telemetry.unknown_operations(), 0);
    }
    let mut told = Told::default();
    telemetry.flush_counts(&mut told);
    assert!(told.0.contains(&"td/ns/a/sa/b to other SourceRequests 6".to_owned()), "{:?}", told.0);
    assert!(!told.0.iter().any(|line| line.contains("Made")), "{:?}", told.0);
}

#[test]
fn what_is_likely_is_taken_if_it_is_that() {
    let mut telemetry = Telemetry::default();
    let first = telemetry.operation("A", "a", true, 5);
    let known = Some(first);
    let other = telemetry.operation("A", "b", true, 5);
    assert_eq!(telemetry.likely_operation(known, "A", "a", false, 5), first);
    assert_eq!(telemetry.likely_operation(known, "A", "b", false, 5), other);
    // What is not known may be gone, and another in its place.
    let unknown = telemetry.likely_operation(known, "B", "b", false, 5);
    assert!(!unknown.was_known());
    telemetry.begin(unknown, None, 5);
    end(&mut telemetry, unknown, None, 5);
    let next = telemetry.likely_operation(Some(unknown), "B", "c", false, 5);
    assert_eq!(&*telemetry.label(next).method, "c");
    assert_eq!(telemetry.likely_operation(Some(next), "B", "c", false, 5), next);
    // A route that names it makes it known all the same.
    telemetry.likely_operation(Some(next), "B", "c", true, 5);
    assert!(telemetry.likely_operation(Some(next), "B", "c", false, 5).was_known());
}
