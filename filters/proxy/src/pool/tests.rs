use super::*;
use crate::plan::Plan;

const CLUSTER: &str = "outbound|20880||demo";

fn at(millis: u64) -> Instant {
    Instant::default().after(Duration::from_millis(millis))
}

fn plan(service: &str) -> Plan {
    let plan = format!(r#"{{"services": {{"demo": {{"protocol": "dubbo", {service}}}}}}}"#);
    Plan::parse(plan.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap()
}

fn pool(service: &str) -> Pool {
    Pool::new(CLUSTER.into(), None, None, plan(service).service("demo").unwrap().clone(), at(0))
}

#[test]
fn connections_are_counted_from_the_first_step_to_the_last() {
    let mut pool = pool(r#""upstream": {"connectionsPerEndpoint": 1, "ejectionTime": "2s"}"#);
    let [a, b] = [10, 11].map(|n| Id::new(n, 1));
    let named = pool.connect(Some("10.0.0.1:1"));
    assert_eq!((pool.connect(None), pool.connecting(), pool.forget_at()), (None, 2, None));
    let endpoint = pool.connected(a, "10.0.0.1:1", at(0));
    assert_eq!(endpoint, named);
    assert!(!pool.is_crowded(endpoint) && pool.is_crowded(None));
    assert_eq!(pool.connected(b, "10.0.0.1:1", at(0)), endpoint);
    assert!(pool.is_crowded(endpoint));
    assert_eq!((pool.connecting(), pool.open()), (0, &[a, b][..]));
    pool.retired(a, endpoint, |_| None);
    assert_eq!((pool.open(), pool.is_crowded(endpoint)), (&[b][..], false));
    pool.gone();
    assert_eq!(pool.forget_at(), None, "the other is there");
    pool.retired(b, endpoint, |_| None);
    pool.gone();
    assert_eq!(pool.forget_at(), Some(at(60_000)));
    pool.connect(None);
    pool.not_connected();
    assert_eq!((pool.connecting(), pool.forget_at()), (0, None));
}

#[test]
fn who_refused_is_looked_for_again_once_it_may_be_back() {
    let mut pool = pool(r#""upstream": {"ejectionTime": "2s"}"#);
    let named = pool.connect(Some("10.0.0.1:1"));
    assert_eq!(pool.refused(None, named, None, at(0)), (named, true));
    assert_eq!(pool.refused(Some("10.0.0.1:1"), None, None, at(1)), (named, false));
    assert!(!pool.is_exploring(), "two in a row were of no use");
    assert_eq!(pool.explore_later(at(1000)), at(3000));
    assert_eq!((pool.explore_if_due(at(2999)), pool.next_search()), (false, Some(at(3000))));
    assert!(pool.explore_if_due(at(3000)));
    assert!(pool.is_exploring());
    assert_eq!((pool.explore_if_due(at(9000)), pool.next_search()), (false, None));
}

#[test]
fn each_that_went_is_looked_for_once_it_may_be_back() {
    let mut pool = pool(r#""upstream": {"ejectionTime": "2s"}"#);
    let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| pool.endpoints_mut().find(address));
    assert_eq!(pool.lost(a, at(0)), at(2000));
    assert_eq!([pool.lost(a, at(500)), pool.lost(b, at(500))], [at(2000); 2], "the first is sooner");
    assert!(pool.explore_if_due(at(2000)));
    assert_eq!(pool.next_search(), Some(at(2500)), "a search finds none that are back later");
    assert!(pool.explore_if_due(at(2500)));
    assert_eq!(pool.next_search(), None);
    let back = pool.lost(b, at(2500));
    pool.endpoints_mut().connected(b);
    assert!(pool.explore_if_due(back));
    assert_eq!(pool.lost(b, at(2600)), back, "which the search before does not know");
}

#[test]
fn a_pool_is_listed_once_and_only_for_something_to_do() {
    let mut pool = pool(r#""routes": []"#);
    assert_eq!([pool.enlist(), pool.enlist()], [true, false], "endpoints are looked for");
    pool.unlist();
    while pool.is_exploring() {
        pool.refused(None, None, None, at(0));
    }
    assert!(!pool.enlist());
    pool.waiting_mut().push(None, 0, Id::new(0, 1));
    assert_eq!([pool.enlist(), pool.enlist()], [true, false]);
}

#[test]
fn the_first_of_too_many_unresponsive_connections_is_given_up() {
    let mut pool = pool(r#""routes": []"#);
    let keys: Vec<ConnectionId> = (0..12).map(|n| Id::new(n, 1)).collect();
    let given_up: Vec<_> = keys.iter().map(|&key| pool.unresponsive(key, |_| true)).collect();
    let first = [0, 1, 2, 3].map(|n| Some(keys[n]));
    assert_eq!(given_up, [&[None; MOST_UNRESPONSIVE], &first[..]].concat());
    assert_eq!(pool.unresponsive(Id::new(12, 1), |key| key == keys[11]), None, "the others are gone");
}

#[test]
fn connections_to_what_clients_address_are_closed_some_time() {
    let plan = plan(r#""upstream": {"maxConnectionAge": "0s"}"#);
    let service = plan.service("demo").unwrap();
    let pool = |destination| Pool::new(CLUSTER.into(), destination, None, service.clone(), at(0));
    let hour = at(3_600_000);
    assert!(!pool(None).is_idle(hour) && pool(None).renewal_time().is_none());
    let pool = pool(Some("10.1.0.1:1".into()));
    assert!(!pool.is_idle(at(59_999)) && pool.is_idle(at(60_000)));
    assert_eq!(pool.renewal_time(), Some(UNUSED));
}
