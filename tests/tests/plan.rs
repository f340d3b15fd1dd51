//! Changes of the plan while calls go on.

use meltemi_tests::{Action, Backend, Client, Frame, Proxy, Setup, Traffic, each_envoy, eventually};
use serde_json::{Value, json};

fn all_to(cluster: &str) -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"cluster": cluster}})
}

/// All calls to `cluster`, in a plan unlike those of other revisions.
fn revision(cluster: &str, number: u32) -> Value {
    let mut service = all_to(cluster);
    let attributes = json!({"method": {"exact": "never called"}});
    service["routes"] =
        json!([{"name": format!("revision {number}"), "match": [{"attributes": attributes}]}]);
    service
}

#[test]
fn a_new_plan_changes_the_next_request_of_an_open_connection() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&all_to("v1"));
        let mut proxy = setup.start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(client.ask("sayHello", "before"), "v1");
        client.send(&Frame::request(1001, "hold", "in flight"));
        v1.wait_for_held(1);

        for (number, server) in (1..).zip(["v2", "v1", "v2"]) {
            proxy.update_service(&revision(server, number));
            eventually("the new plan is in force", || {
                (client.ask("sayHello", "changed") == server).then_some(())
            });
        }
        v1.release();
        let answer = client.receive();
        assert_eq!((answer.id, answer.text().as_deref()), (1001, Some("v1:in flight")));
        assert_eq!(proxy.accepted(), 1);
    });
}

/// So many routes are read between calls.
#[test]
fn a_large_plan_changes_the_next_request_of_open_connections() {
    let large = |cluster: &str| {
        let route = |number| {
            let attributes = json!({"method": {"exact": format!("never called {number}")}});
            json!({"name": format!("to {cluster} {number}"), "match": [{"attributes": attributes}]})
        };
        let mut service = all_to(cluster);
        service["routes"] = (0..5000).map(route).collect();
        service
    };
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&all_to("v1"));
        let mut proxy = setup.concurrency(2).start(envoy);
        let mut clients: Vec<_> = (0..16).map(|_| Client::connect(proxy.meltemi())).collect();
        for (service, server) in [(large("v2"), "v2"), (large("v1"), "v1"), (all_to("v2"), "v2")] {
            proxy.update_service(&service);
            for client in &mut clients {
                eventually("the plan is in force", || (client.ask("sayHello", "x") == server).then_some(()));
            }
        }
        // It is newer than the one that was not read to its end.
        proxy.update_service(&large("v2"));
        proxy.update_service(&all_to("v1"));
        for client in &mut clients {
            eventually("the plan is in force", || (client.ask("sayHello", "x") == "v1").then_some(()));
        }
        for client in &mut clients {
            assert_eq!(client.ask("sayHello", "and stays so"), "v1");
        }
        let mut bad = large("v2");
        bad["routes"][4999]["clutser"] = json!("v2");
        proxy.update_service(&bad);
        eventually("the log reports the error and its place", || {
            proxy.log().contains("services[\"demo\"].routes[4999].clutser").then_some(())
        });
        for client in &mut clients {
            assert_eq!(client.ask("sayHello", "on an open connection"), "v1");
        }
    });
}

/// Envoy reuses what it has of an earlier configuration with the same text.
#[test]
fn a_plan_that_comes_back_is_in_force_again() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&all_to("v1"));
        let mut proxy = setup.concurrency(2).start(envoy);
        // So many that each worker has some, and it is seen of each that it follows.
        let mut clients: Vec<_> = (0..32).map(|_| Client::connect(proxy.meltemi())).collect();
        for server in ["v1", "v2", "v1", "v2", "v1"] {
            proxy.update_service(&all_to(server));
            for client in &mut clients {
                eventually("the plan is in force", || (client.ask("sayHello", "x") == server).then_some(()));
            }
            assert_eq!(Client::connect(proxy.meltemi()).ask("sayHello", "on a new connection"), server);
            for client in &mut clients {
                assert_eq!(client.ask("sayHello", "and stays so"), server);
            }
        }
    });
}

/// Envoy runs each build of the module in a VM of its own: open connections stay with theirs, and new ones may join them.
#[test]
fn plans_of_another_module_are_in_force_on_open_connections() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&all_to("v1"));
        let mut proxy = setup.concurrency(2).start(envoy);
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(proxy.meltemi())).collect();
        for server in ["v2", "v1", "v2", "v1"] {
            if server == "v2" {
                proxy.renew_module();
            }
            proxy.update_service(&all_to(server));
            clients.push(Client::connect(proxy.meltemi()));
            for client in &mut clients {
                eventually("the plan is in force", || (client.ask("sayHello", "x") == server).then_some(()));
            }
            for client in &mut clients {
                assert_eq!(client.ask("sayHello", "and stays so"), server);
            }
        }
    });
}

#[test]
fn a_bad_plan_is_refused_and_the_old_one_stays() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&all_to("v1"));
        let mut proxy = setup.start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(client.ask("sayHello", "before"), "v1");

        let bad = json!({"protocol": "dubbo", "routes": [{"name": "a", "clutser": "v2"}]});
        proxy.update_service(&bad);
        eventually("the log reports the error and its place", || {
            proxy.log().contains("services[\"demo\"].routes[0].clutser").then_some(())
        });
        assert_eq!(client.ask("sayHello", "on the open connection"), "v1");
        assert_eq!(Client::connect(proxy.meltemi()).ask("sayHello", "on a new connection"), "v1");

        proxy.update_service(&all_to("v2"));
        eventually("a good plan is taken again", || (client.ask("sayHello", "again") == "v2").then_some(()));
        assert_eq!(Client::connect(proxy.meltemi()).ask("sayHello", "on a new connection"), "v2");
    });
}

#[test]
fn updates_under_load_lose_nothing() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&all_to("v1"));
        let mut proxy = setup.start(envoy);
        let traffic = Traffic::start(proxy.meltemi(), 8, 4);
        traffic.wait_for_answers(500);
        for number in 0..10 {
            let server = if number % 2 == 0 { &v2 } else { &v1 };
            let before = server.calls("sayHello");
            proxy.update_service(&revision(server.name(), number));
            server.wait_for_calls("sayHello", before + 100);
        }
        traffic.finish();
        assert_eq!(proxy.accepted(), 8);
    });
}

/// Where policies guard, nothing is carried unread: neither for a service that left the plan nor for one that never was in it.
#[test]
fn a_plan_that_guards_refuses_whom_it_does_not_know() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let others = json!({"services": {"other": all_to("v1")}});
        let mut guarded = others.clone();
        guarded["unknownAuthority"] = "refuse".into();
        let setup = Setup::new().servers(v1.address(), v2.address()).plan(&guarded);
        let mut proxy = setup.start(envoy);
        let refused = |proxy: &Proxy| {
            let mut client = Client::connect(proxy.meltemi());
            // The connection may be closed before all of it is written.
            let _ = client.try_send(&Frame::request(1, "sayHello", "unread").bytes());
            client.receive_end();
        };
        refused(&proxy);
        assert_eq!(v1.accepted() + v2.accepted(), 0);

        guarded["services"]["demo"] = all_to("v1");
        proxy.update(&guarded);
        let mut client = eventually("the service is known", || {
            let mut client = Client::connect(proxy.meltemi());
            client.try_send(&Frame::request(1, "sayHello", "x").bytes()).ok()?;
            client.try_receive().ok()?.map(|_| client)
        });
        assert_eq!(client.ask("sayHello", "read and routed"), "v1");
        guarded["services"].as_object_mut().unwrap().remove("demo");
        proxy.update(&guarded);
        eventually("the service is unknown again", || {
            let before = v1.accepted() + v2.accepted();
            let mut client = Client::connect(proxy.meltemi());
            let _ = client.try_send(&Frame::request(1, "sayHello", "unread").bytes());
            let is_refused = matches!(client.try_receive(), Ok(None) | Err(_));
            (is_refused && v1.accepted() + v2.accepted() == before).then_some(())
        });

        // Elsewhere they pass, as they would without the module.
        proxy.update(&others);
        eventually("bytes are relayed", || {
            let mut client = Client::connect(proxy.meltemi());
            client.try_send(&Frame::request(1, "sayHello", "relayed").bytes()).ok()?;
            client.try_receive().ok()?.map(drop)
        });
    });
}
