use super::*;

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

#[test]
fn operations_beyond_the_most_are_counted_as_other() {
    let mut telemetry = Telemetry::default();
    let known = [telemetry.operation("A", "a", 2), telemetry.operation("A", "b", 2)];
    let other = telemetry.operation("A", "c", 2);
    assert_eq!([telemetry.operation("A", "a", 2), telemetry.operation("A", "b", 2)], known);
    assert_eq!(telemetry.operation("B", "a", 2), other);
    assert_eq!(telemetry.label(other), Label { service: "other".into(), method: "other".into() });
    assert_eq!(telemetry.operations.len(), 3);
    // A new plan may allow more.
    assert_ne!(telemetry.operation("B", "a", 9), other);
}

#[test]
fn names_from_the_wire_are_cut_and_never_empty() {
    let mut telemetry = Telemetry::default();
    let long = "é".repeat(100);
    let id = telemetry.operation(&long, "", 10);
    let label = telemetry.label(id);
    assert_eq!((&*label.service, &*label.method), (&*"é".repeat(64), "-"));
    assert_eq!(telemetry.operation(&"é".repeat(65), "-", 10), id);
}

#[test]
fn counts_gather_until_they_are_due() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", 10);
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
    let [a, other_a, b] = operations.map(|(service, method)| telemetry.operation(service, method, 10));
    let [x, y, again] = ["x", "y", "x"].map(|principal| telemetry.source(principal, 10));
    assert_eq!(x, again);
    for (operation, source) in [(a, x), (other_a, x), (a, y), (b, x), (a, x)] {
        telemetry.add_source(operation, source, 10);
    }
    assert!(telemetry.due().is_some());
    telemetry.flush_counts(&mut told);
    let counted = ["x to A SourceRequests 3", "y to A SourceRequests 1", "x to B SourceRequests 1"];
    assert_eq!(told.0, counted);
    assert_eq!(telemetry.due(), None);
    telemetry.add_source(b, x, 10);
    telemetry.flush_counts(&mut told);
    assert_eq!(told.0[3..], ["x to B SourceRequests 1"]);
}

#[test]
fn responses_are_counted_by_service_workload_and_identity() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let a = telemetry.operation("A", "a", 10);
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
    let [a, b] = ["A", "B"].map(|service| telemetry.operation(service, "m", 10));
    let [x, y, z] = ["x", "y", "z"].map(|principal| telemetry.source(principal, 2));
    for operation in [a, b] {
        for source in [x, y, z] {
            telemetry.add_source(operation, source, 3);
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
    let id = telemetry.operation("A", "a", 10);
    telemetry.add(id, Metric::InFlight, 1);
    telemetry.add(id, Metric::InFlight, -1);
    telemetry.flush_counts(&mut told);
    telemetry.add(id, Metric::InFlight, 2);
    telemetry.flush_counts(&mut told);
    telemetry.add(id, Metric::InFlight, -2);
    telemetry.flush_counts(&mut told);
    assert_eq!(told.0, ["A.a InFlight +2", "A.a InFlight -2"]);
}

#[test]
fn a_bucket_counts_all_that_took_no_longer() {
    let (mut telemetry, mut told) = (Telemetry::default(), Told::default());
    let id = telemetry.operation("A", "a", 10);
    for took in [10 * MS, 10 * MS + MS / 1000, 60_000 * MS] {
        telemetry.latency(id, took);
    }
    telemetry.flush_counts(&mut told);
    let buckets: Vec<_> = told.0.iter().map(|line| line.trim_start_matches("A.a Latency")).collect();
    let all = LATENCY_BUCKETS.len();
    assert_eq!(buckets[..2], ["Bucket(Some(10000)) 1", "Bucket(Some(25000)) 2"]);
    assert_eq!(buckets[all - 7..], ["Bucket(Some(30000000)) 2", "Bucket(None) 3", "Count 3", "Sum 60020001"]);
    told.0.clear();
    telemetry.flush_counts(&mut told);
    assert!(told.0.is_empty());
}
