//! Connections that end, break or carry what they should not.

use std::time::Duration;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Action, Backend, Client, Setup, each_envoy, eventually, server_of, signal};
use serde_json::{Value, json};

const SERVER_ERROR: u8 = 80;

/// More clients than Envoy, by its defaults, queues control frames for.
const THOUSANDS: usize = 4000;

/// All calls go to `v1`, none is retried.
fn to_v1() -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"cluster": "v1"}})
}

/// Calls until the proxy has the connection to `server` that it keeps, and says which that is.
fn warm_up(client: &mut Client, server: &Backend) -> u64 {
    for number in 0..50 {
        assert_eq!(client.ask("sayHello", &format!("warm-up {number}")), server.name());
    }
    server.wait_for_kept()
}

#[test]
fn a_client_that_leaves_takes_only_its_own_calls_along() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut stays = Client::connect(proxy.meltemi());
        let kept = warm_up(&mut stays, &v1);
        stays.send(&Frame::request(1, "hold", "stays"));
        let mut closes = Client::connect(proxy.meltemi());
        let mut resets = Client::connect(proxy.meltemi());
        for id in 1..5 {
            closes.send(&Frame::request(id, "hold", "leaves"));
            resets.send(&Frame::request(id, "hold", "leaves"));
        }
        v1.wait_for_held(9);
        resets.reset();
        eventually("the client that reset its connection is gone", || (proxy.clients() == 2).then_some(()));
        // The other one may have ended its direction only: it goes with its last answer.
        drop(closes);
        v1.release();
        eventually("the client that closed its connection is gone", || (proxy.clients() == 1).then_some(()));
        assert_eq!(server_of(&stays.receive(), "stays"), "v1");
        assert_eq!(stays.ask("sayHello", "still here"), "v1");
        assert!(v1.is_open(kept), "the shared connection stays");
        eventually("no call is left", || (proxy.metric("meltemi_in_flight", &[]) == 0).then_some(()));
    });
}

#[test]
fn thousands_that_leave_at_once_take_no_other_along() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut stays = Client::connect(proxy.meltemi());
        let mut leaving: Vec<_> = (0..THOUSANDS).map(|_| Client::connect(proxy.meltemi())).collect();
        for client in &mut leaving {
            assert_eq!(client.ask("sayHello", "before it leaves"), "v1");
        }
        // While Envoy stands still, all of them are gone: it hears of them in a few turns of its event loop.
        signal(proxy.process(), "STOP");
        for client in leaving {
            client.reset();
        }
        signal(proxy.process(), "CONT");
        eventually("they are gone", || (proxy.clients() <= 1).then_some(()));
        assert_eq!(stays.ask("sayHello", "still here"), "v1");
    });
}

#[test]
fn a_client_may_end_its_direction_and_still_gets_its_answers() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for id in 0..3 {
            client.send(&Frame::request(id, "hold", "ended"));
        }
        client.end_writing();
        v1.wait_for_held(3);
        v1.release();
        let mut ids: Vec<_> = (0..3).map(|_| client.receive().id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2]);
        client.receive_end();
    });
}

#[test]
fn a_server_that_closes_idle_connections_is_connected_to_again() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for round in 0..4 {
            warm_up(&mut client, &v1);
            if round % 2 == 0 {
                v1.reset_connections()
            } else {
                v1.close_connections()
            }
            v1.wait_for_connections(0);
            eventually("the proxy sees it", || {
                (proxy.metric("meltemi_upstream_connections_active", &[]) == 0).then_some(())
            });
        }
    });
}

#[test]
fn calls_on_a_connection_that_the_server_ends_are_answered() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        v1.on("hold", Action::Hold);
        for action in [Action::Close, Action::Reset, Action::EndWriting] {
            client.send(&Frame::request(1001, "hold", "beside it"));
            v1.wait_for_held(1);
            v1.on("ends", action.clone());
            client.send(&Frame::request(1002, "ends", "itself"));
            let mut answers = [client.receive(), client.receive()];
            answers.sort_by_key(|answer| answer.id);
            for (answer, id) in answers.iter().zip(1001..) {
                assert_eq!(
                    (answer.id, answer.status),
                    (id, SERVER_ERROR),
                    "{action:?}: {:?}",
                    answer.message()
                );
            }
            assert_eq!(client.ask("sayHello", "afterwards"), "v1");
            v1.release();
        }
    });
}

/// Dubbo servers say READONLY before they go: calls in flight are still answered, new ones go elsewhere.
#[test]
fn a_server_that_asks_for_no_new_calls_gets_none() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        warm_up(&mut client, &v1);
        client.send(&Frame::request(1001, "hold", "in flight"));
        v1.wait_for_held(1);
        let before = v1.accepted();
        v1.send(&Frame::read_only().bytes());
        eventually("new calls use a new connection", || {
            client.ask("sayHello", "new");
            (v1.accepted() > before).then_some(())
        });
        v1.release();
        assert_eq!(server_of(&client.receive(), "in flight"), "v1");
        eventually("the old connections are closed", || {
            (v1.connections() as u64 <= v1.accepted() - before).then_some(())
        });
    });
}

#[test]
fn heartbeats_of_both_sides_are_answered_here() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        client.send(&Frame::heartbeat(41));
        assert_eq!(client.receive(), Frame::heartbeat_answer(41));
        assert_eq!(client.ask("sayHello", "between"), "v1");
        client.send(&Frame::heartbeat(u64::MAX));
        assert_eq!(client.receive(), Frame::heartbeat_answer(u64::MAX));
        assert!(
            v1.received().iter().all(|frame| !frame.is_event()),
            "the server sees no heartbeat of the client"
        );

        v1.send(&Frame::heartbeat(42).bytes());
        let answer = v1.wait_for_frame("the answer to the server's heartbeat", |frame| frame.is_event());
        assert_eq!(answer, Frame::heartbeat_answer(42));
        assert_eq!(client.ask("sayHello", "the client sees no heartbeat of the server"), "v1");
    });
}

#[test]
fn one_way_calls_are_delivered() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for id in 0..20 {
            client.send(&Frame::request(id, "note", format!("note {id}")).one_way());
        }
        v1.wait_for_calls("note", 20);
        assert_eq!(client.ask("sayHello", "nothing came in between"), "v1");
        // A client that says its word and leaves is heard.
        let mut brief = Client::connect(proxy.meltemi());
        brief.send(&Frame::request(1, "note", "brief").one_way());
        drop(brief);
        v1.wait_for_calls("note", 21);
    });
}

#[test]
fn clients_that_send_nonsense_harm_only_themselves() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).start(envoy);
        let mut other = Client::connect(proxy.meltemi());
        other.send(&Frame::request(1, "hold", "unharmed"));
        v1.wait_for_held(1);

        let mut oversized = Frame::request(5, "sayHello", "x").bytes();
        oversized[12..16].copy_from_slice(&i32::MAX.to_be_bytes());
        let mut negative = oversized.clone();
        negative[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        let mut broken = Frame::request(6, "sayHello", "x");
        broken.body = vec![0xff; 100];
        for (nonsense, id) in [
            (b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n".to_vec(), None),
            (vec![0; 64], None),
            (negative, None),
            (oversized, Some(5)),
        ] {
            let mut client = Client::connect(proxy.meltemi());
            assert_eq!(client.ask("sayHello", "good as yet"), "v1");
            client.send_bytes(&nonsense);
            if let Some(id) = id {
                let answer = client.receive();
                assert!(answer.id == id && answer.status > 20, "{answer:?}");
            }
            client.receive_end();
        }
        // A frame whose ends are known and whose head is not spoils nothing but itself.
        let mut client = Client::connect(proxy.meltemi());
        client.send(&broken);
        let answer = client.receive();
        assert_eq!(answer.id, 6);
        assert_eq!(client.ask("sayHello", "good again"), "v1");

        v1.release();
        assert_eq!(server_of(&other.receive(), "unharmed"), "v1");
        assert_eq!(other.ask("sayHello", "unharmed"), "v1");
    });
}

#[test]
fn servers_that_send_nonsense_fail_only_their_own_calls() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "routes": [{"name": "v2", "match": [{"attributes": {"method": {"exact": "hold"}}}], "cluster": "v2"}],
            "defaultRoute": {"cluster": "v1"},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        v2.on("hold", Action::Hold);
        let mut client = Client::connect(proxy.meltemi());
        client.send(&Frame::request(1001, "hold", "unharmed"));
        v2.wait_for_held(1);
        let mut oversized = Frame::heartbeat_answer(1).bytes();
        oversized[12..16].copy_from_slice(&i32::MAX.to_be_bytes());
        for nonsense in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), oversized] {
            v1.on("bad", Action::Raw(nonsense));
            let answer = client.call("bad", "x");
            assert!(answer.status > 20 && answer.message().is_some(), "{answer:?}");
            assert_eq!(client.ask("sayHello", "afterwards"), "v1");
        }
        // Answers that nobody waits for are passed over.
        v1.send(&Frame::response(987_654_321, &"stray".into()).bytes());
        assert_eq!(client.ask("sayHello", "afterwards"), "v1");
        v2.release();
        assert_eq!(server_of(&client.receive(), "unharmed"), "v2");
    });
}

/// Envoy closes what it deems idle after minutes or an hour. With all those time-outs that the configuration leaves to
/// their defaults at one second, nothing is closed.
#[test]
fn idle_time_outs_kill_nothing() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("late", Action::Delay(Duration::from_secs(4)));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&to_v1()).change(shorten);
        let proxy = setup.start(envoy);
        let mut idle = Client::connect(proxy.meltemi());
        let kept = warm_up(&mut idle, &v1);
        let mut busy = Client::connect(proxy.meltemi());
        assert_eq!(busy.ask("late", "much later"), "v1");
        assert_eq!(idle.ask("sayHello", "after"), "v1");
        assert!(v1.is_open(kept), "the upstream connection is kept");
        // Nothing at all for longer than the time-outs.
        v1.on("late", Action::Hold);
        drop(busy);
        let other = Backend::start("other");
        other.on("late", Action::Delay(Duration::from_secs(3)));
        Client::connect(other.address()).ask("late", "a clock of three seconds");
        assert_eq!(idle.ask("sayHello", "after"), "v1");
        assert!(v1.is_open(kept), "the upstream connection is kept");
    });
}

/// Puts one second in the place of each idle time-out that the bootstrap does not set.
fn shorten(bootstrap: &mut Value) {
    let resources = &mut bootstrap["static_resources"];
    let mut shortened = 0;
    let mut default = |settings: &mut Value, name: &str| {
        if settings[name].is_null() {
            settings[name] = json!("1s");
            shortened += 1;
        }
    };
    for listener in resources["listeners"].as_array_mut().unwrap() {
        for filter in listener["filter_chains"][0]["filters"].as_array_mut().unwrap() {
            let config = &mut filter["typed_config"];
            let kind = config["@type"].as_str().unwrap_or_default().to_owned();
            if kind.ends_with(".TcpProxy") {
                default(config, "idle_timeout");
            }
            if kind.ends_with(".HttpConnectionManager") {
                default(config, "stream_idle_timeout");
                default(config, "request_timeout");
                default(&mut config["common_http_protocol_options"], "idle_timeout");
                for route in config["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap() {
                    if route["route"].is_object() {
                        default(&mut route["route"], "timeout");
                        default(&mut route["route"], "idle_timeout");
                    }
                }
            }
        }
    }
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    for cluster in resources["clusters"].as_array_mut().unwrap() {
        let http = &mut cluster["typed_extension_protocol_options"][options];
        http["@type"] = json!(format!("type.googleapis.com/{options}"));
        if http["explicit_http_config"].is_null() {
            http["explicit_http_config"] = json!({"http_protocol_options": {}});
        }
        default(&mut http["common_http_protocol_options"], "idle_timeout");
    }
    assert!(shortened > 0);
}

#[test]
fn the_plan_closes_idle_clients() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("late", Action::Delay(Duration::from_secs(2)));
        let mut service = to_v1();
        service["idleTimeout"] = json!("500ms");
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        // On a busy machine it may be idle before it calls.
        let mut client = eventually("a call in flight is not idle", || {
            let mut client = Client::connect(proxy.meltemi());
            client.try_send(&Frame::request(1, "late", "x").bytes()).ok()?;
            client.try_receive().ok()?.map(|_| client)
        });
        client.receive_end();
    });
}
