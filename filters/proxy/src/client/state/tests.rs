use meltemi_codecs::{Codecs, Frame, Kind};
use meltemi_sockets::{Options, Sockets, Target};

use super::*;
use crate::calls::{Call, Calls, Origin, PoolCalls, Record};

fn at(millis: u64) -> Instant {
    Instant::default().after(Duration::from_millis(millis))
}

fn plan(service: &str) -> Plan {
    let plan = format!(r#"{{"services": {{"demo": {{"protocol": "dubbo", {service}}}}}}}"#);
    Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap()
}

fn client(service: &str) -> Client {
    let target = Target { cluster: "demo", endpoint: None, headers: &[] };
    let socket = Sockets::new(Options::default()).connect(&target).unwrap();
    let accept = Accept { authority: "demo".to_owned(), cluster: None, peer: None, headers: Vec::new() };
    let service = plan(service).service("demo").unwrap().clone();
    Client::new(socket, &accept, service, None, Source::new(&accept), at(0))
}

/// Has a call of the client begin.
fn begin(client: &mut Client, calls: &mut Calls) {
    let operation = crate::telemetry::Telemetry::default().operation("", "", true, 1);
    let frame = Frame { len: 64, head: 16, kind: Kind::Request, id: 7 };
    let (service, pool) = (client.service.clone(), Id::new(7, 1));
    let route = service.default_route.clone();
    let record = Record::new(service, None, operation, frame, at(0));
    let call = Call::new(Origin::of(Id::new(0, 1)), route, pool, record);
    calls.insert(call, Some(client.begin_call(pool, operation)), &mut PoolCalls::default());
}

#[test]
fn its_window_waits_while_it_is_paused() {
    let mut client = client(r#""routes": []"#);
    assert!(client.came(10, at(0)), "nothing waits");
    client.pause(true);
    assert!(!client.came(5, at(0)));
    assert_eq!(client.take_credit(), 0);
    client.intake_mut().inbox_mut().push(b"waits");
    client.pause(false);
    assert!(!client.came(1, at(0)), "something waits");
    assert_eq!([client.take_credit(), client.take_credit()], [16, 0]);
}

#[test]
fn it_has_room_for_as_many_calls_as_the_plan_says() {
    let mut client = client(r#""limits": {"maxCallsPerConnection": 2}"#);
    let mut calls = Calls::default();
    for has_room in [true, true, false] {
        assert_eq!(client.has_room(0), has_room);
        assert!(!client.has_room(HIGH_WATERMARK), "answers wait to be read");
        begin(&mut client, &mut calls);
    }
    assert_eq!(client.likely().0, Some(Id::new(7, 1)));
    assert!(!client.end_call(at(1)), "its calls are there");
}

#[test]
fn it_is_listed_once_and_only_if_it_waits_for_the_end_of_a_call() {
    let mut client = client(r#""routes": []"#);
    assert!(!client.enlist());
    client.pause(true);
    assert_eq!([client.enlist(), client.enlist()], [true, false]);
    client.unlist();
    client.pause(false);
    assert!(!client.enlist());
    client.end();
    assert!(client.enlist());
    client.unlist();
    assert!(client.enlist());
}

#[test]
fn it_is_done_when_it_has_ended_and_all_is_said() {
    let mut client = client(r#""idleTimeout": "0s""#);
    assert!(!client.is_done(at(0)));
    client.end();
    assert!(client.is_done(at(0)));
    client.pause(true);
    assert!(!client.is_done(at(0)), "requests wait to be read");
    client.pause(false);
    begin(&mut client, &mut Calls::default());
    assert!(!client.is_done(at(0)), "an answer is to come");
}

#[test]
fn it_is_drained_in_its_turn_and_once() {
    let mut client = client(r#""idleTimeout": "0s""#);
    client.stay_until(at(100));
    client.stay_until(at(50));
    assert_eq!((client.expiry(at(99)), client.expiry(at(100))), (None, Some(Expiry::Turn)));
    assert_eq!([client.drain(at(200)), client.drain(at(900))], [true, false]);
    client.stay_until(at(150));
    assert!(!client.is_done(at(199)) && client.is_done(at(200)));
    assert_eq!((client.expiry(at(199)), client.expiry(at(200))), (None, Some(Expiry::Idle)));
    begin(&mut client, &mut Calls::default());
    assert_eq!((client.expiry(at(900)), client.is_done(at(900))), (None, false), "it has a call");
}

#[test]
fn it_is_idle_while_it_has_no_calls() {
    let mut client = client(r#""idleTimeout": "1s""#);
    client.came(1, at(500));
    assert_eq!((client.expiry(at(1499)), client.expiry(at(1500))), (None, Some(Expiry::Idle)));
    assert!(client.end_call(at(2000)));
    assert_eq!((client.expiry(at(2999)), client.expiry(at(3000))), (None, Some(Expiry::Idle)));
}

#[test]
fn a_request_in_part_has_time_for_each_step() {
    let mut client = client(r#""frameTimeout": "1s", "idleTimeout": "0s""#);
    let incomplete = Some(Expiry::Incomplete(Duration::from_secs(1)));
    client.intake_mut().inbox_mut().push(&[0; 100]);
    client.note_arrival(at(0));
    client.intake_mut().inbox_mut().push(&[0; 100]);
    client.note_arrival(at(900));
    assert_eq!((client.expiry(at(999)), client.expiry(at(1000))), (None, incomplete), "a few bytes");
    assert_eq!(client.stands_since(false), Some(at(0)));
    client.intake_mut().inbox_mut().push(&[0; STEP]);
    client.note_arrival(at(900));
    assert_eq!((client.expiry(at(1899)), client.expiry(at(1900))), (None, incomplete));
    client.pause(true);
    client.note_arrival(at(1900));
    assert_eq!(client.expiry(at(9999)), None, "it is not the client that is waited for");
    client.pause(false);
    client.note_arrival(at(1900));
    client.arrived();
    assert_eq!((client.expiry(at(9999)), client.stands_since(false)), (None, None));
}

#[test]
fn one_that_does_not_read_has_less_time_where_it_blocks_others() {
    let mut client = client(r#""frameTimeout": "30s", "idleTimeout": "0s""#);
    assert!(!client.is_watched());
    client.note_sent(5, at(1));
    client.watch(5, at(1));
    client.note_sent(5, at(2));
    assert_eq!((client.stands_since(true), client.stands_since(false)), (Some(at(1)), None));
    let expiry = Some(Expiry::Backpressure { sent: 5 });
    assert_eq!((client.expiry(at(30_000)), client.expiry(at(30_001))), (None, expiry));
    client.block(Id::new(3, 1));
    client.watch(5, at(1));
    assert_eq!((client.expiry(at(1000)), client.expiry(at(1001))), (None, expiry));
    assert_eq!(client.unblock(), [Id::new(3, 1)]);
    assert!(!client.is_watched() && client.blocked().is_empty());
    client.note_sent(6, at(3));
    assert_eq!(client.stands_since(true), Some(at(3)));
}

#[test]
fn it_is_looked_at_by_when_it_is_first_due() {
    let mut client = client(r#""frameTimeout": "1s", "idleTimeout": "5s""#);
    assert_eq!([client.next_look(), client.next_look()], [Some(at(5000)), None]);
    client.came(1, at(100));
    assert_eq!(client.next_look(), None, "it is looked at before");
    client.intake_mut().inbox_mut().push(b"p");
    client.note_arrival(at(100));
    assert_eq!(client.next_look(), Some(at(1100)));
    assert_eq!(client.looked_at(), Some(at(1100)));
    client.look();
    client.arrived();
    assert_eq!(client.next_look(), Some(at(5100)));
}

#[test]
fn a_plan_gives_its_service_another_form_or_ends_it() {
    let mut client = client(r#""frameTimeout": "1s""#);
    // A protocol is the same only where it is the very codec that the client came with.
    let outdated = [plan(r#""frameTimeout": "2s""#), Plan::parse(b"", &Codecs::all()).unwrap()];
    assert_eq!(outdated.map(|plan| client.follow(&plan)), [Change::Outdated; 2]);
    let refuse = Plan::parse(br#"{"unknownAuthority": "refuse"}"#, &Codecs::all()).unwrap();
    assert_eq!(client.follow(&refuse), Change::Barred);
    let codecs = Codecs::new([client.service.codec.clone()]);
    let text = br#"{"services": {"demo": {"protocol": "dubbo", "frameTimeout": "2s"}}}"#;
    assert_eq!(client.follow(&Plan::parse(text, &codecs).unwrap()), Change::Form);
    assert_eq!(client.service().frame_timeout, Some(Duration::from_secs(2)));
}
