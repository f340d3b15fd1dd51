//! What `generate` makes of RedisServices and RedisDestinations, in a real Envoy in front of real Redis servers.

mod demonstrations;
mod server;
mod stage;

use std::time::{Duration, Instant};

use meltemi_tests::{each_envoy, eventually};
use server::{Reply, Server, join, text};
use stage::{Stage, resource, sample, service};

#[test]
fn the_sample_routes_mirrors_and_authenticates() {
    each_envoy(|envoy| {
        let cache = Server::start(&["--requirepass", "known-to-the-proxy"]);
        let archive = Server::start(&[]);
        let stage = Stage::start(envoy, &sample(), &[("cache", &[&cache]), ("archive", &[&archive])]);
        let mut client = stage.client("10.96.7.21");
        assert_eq!(client.get("a"), Reply::Error("NOAUTH Authentication required.".to_owned()));
        assert!(matches!(client.call(&["AUTH", "known-to-the-proxy"]), Reply::Error(_)));
        assert_eq!(client.call(&["AUTH", "known-to-clients"]), text("OK"));
        client.set("a", "1");
        client.set("archive:a", "2");
        assert_eq!(client.get("a"), text("1"));
        assert_eq!(client.get("archive:a"), text("2"));
        let mut direct = cache.client();
        assert_eq!(direct.call(&["AUTH", "known-to-the-proxy"]), text("OK"));
        assert_eq!(direct.get("a"), text("1"));
        // The prefix is taken off.
        assert_eq!(archive.client().get("a"), text("2"));
        // The other service is called past the proxy, for no resource is of it.
        assert_eq!(stage.client("10.96.7.22").get("a"), text("2"));
        assert_eq!(stage.client("10.96.7.22").call(&["MULTI"]), text("OK"));
    });
}

#[test]
fn a_service_that_nobody_asked_for_does_what_it_did() {
    each_envoy(|envoy| {
        let plain = Server::start(&["--requirepass", "known-to-clients"]);
        let asked = Server::start(&[]);
        let world = service("plain", "10.0.0.1")
            + &service("asked", "10.0.0.2")
            + &resource("RedisService", "asked", "{host: [asked]}");
        let stage = Stage::start(envoy, &world, &[("plain", &[&plain]), ("asked", &[&asked])]);
        let client = || {
            let mut client = stage.client("10.0.0.1");
            assert_eq!(client.get("a"), Reply::Error("NOAUTH Authentication required.".to_owned()));
            assert_eq!(client.call(&["AUTH", "known-to-clients"]), text("OK"));
            client
        };
        let mut writer = client();
        writer.set("a", "1");

        assert_eq!(writer.call(&["MULTI"]), text("OK"));
        assert_eq!(writer.call(&["INCR", "a"]), text("QUEUED"));
        assert_eq!(writer.call(&["RENAME", "a", "b"]), text("QUEUED"));
        assert_eq!(writer.call(&["EXEC"]), Reply::List(vec![Reply::Number(2), text("OK")]));

        let mut subscriber = client();
        let list = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
        let mut subscribed = list(&["subscribe", "news"]);
        subscribed.push(Reply::Number(1));
        assert_eq!(subscriber.call(&["SUBSCRIBE", "news"]), Reply::List(subscribed));
        assert_eq!(writer.call(&["PUBLISH", "news", "hello"]), Reply::Number(1));
        assert_eq!(subscriber.reply(), Reply::List(list(&["message", "news", "hello"])));

        let mut blocked = client();
        blocked.send(&["BLPOP", "queue", "0"]);
        eventually("it waits", || {
            let Reply::Text(info) = writer.call(&["INFO", "clients"]) else { return None };
            info.contains("blocked_clients:1").then_some(())
        });
        assert_eq!(writer.call(&["RPUSH", "queue", "job"]), Reply::Number(1));
        assert_eq!(blocked.reply(), Reply::List(list(&["queue", "job"])));

        // The proxy of the other knows none of this.
        let mut proxied = stage.client("10.0.0.2");
        proxied.set("a", "1");
        assert!(matches!(proxied.call(&["SUBSCRIBE", "news"]), Reply::Error(_)));
        assert!(matches!(proxied.call(&["BLPOP", "queue", "1"]), Reply::Error(_)));
    });
}

#[test]
fn prefixes_match_in_either_case_where_asked() {
    each_envoy(|envoy| {
        let (main, other) = (Server::start(&[]), Server::start(&[]));
        let world = service("main", "10.0.0.1")
            + &service("other", "10.0.0.2")
            + &resource(
                "RedisService",
                "main",
                "{host: [main], settings: {caseInsensitive: true}, redis: [{match: {key: {prefix: 'x:'}}, route: {host: other}}, \
                 {route: {host: main}}]}",
            );
        let stage = Stage::start(envoy, &world, &[("main", &[&main]), ("other", &[&other])]);
        let mut client = stage.client("10.0.0.1");
        client.set("X:a", "1");
        client.set("y:a", "2");
        assert_eq!(other.client().get("X:a"), text("1"));
        assert_eq!(main.client().get("y:a"), text("2"));
        assert_eq!(main.client().get("X:a"), Reply::Nil);
    });
}

#[test]
fn commands_are_mirrored_all_or_without_reads() {
    each_envoy(|envoy| {
        let (main, all, writes, none) =
            (Server::start(&[]), Server::start(&[]), Server::start(&[]), Server::start(&[]));
        let world = service("main", "10.0.0.1")
            + &service("all", "10.0.0.2")
            + &service("writes", "10.0.0.3")
            + &service("none", "10.0.0.4")
            + &resource(
                "RedisService",
                "main",
                "{host: [main], redis: [{route: {host: main}, mirror: [{route: {host: all}}, {route: {host: writes}, \
                 excludeReadCommands: true}, {route: {host: none}, percentage: {value: 0}}]}]}",
            );
        let servers = [("main", &[&main][..]), ("all", &[&all]), ("writes", &[&writes]), ("none", &[&none])];
        let stage = Stage::start(envoy, &world, &servers);
        let mut client = stage.client("10.0.0.1");
        client.set("a", "1");
        assert_eq!(client.get("a"), text("1"));
        client.set("b", "2");
        for mirror in [&all, &writes] {
            eventually("the copies arrive", || (mirror.client().get("b") == text("2")).then_some(()));
        }
        // One of them is the one that was just sent to it directly, at least once.
        eventually("the copy of the read arrives", || (all.count("get") > 1).then_some(()));
        let direct = writes.count("get");
        assert_eq!(client.get("a"), text("1"));
        client.set("c", "3");
        eventually("the last copy arrives", || (writes.count("set") == 3).then_some(()));
        assert_eq!(writes.count("get"), direct);
        assert_eq!(none.count("set"), 0);
    });
}

#[test]
fn faults_delay_and_fail_the_commands_they_name() {
    each_envoy(|envoy| {
        let server = Server::start(&[]);
        let world = service("main", "10.0.0.1")
            + &resource(
                "RedisService",
                "main",
                "{host: [main], faults: [{type: ERROR, commands: [GET]}, {type: DELAY, delay: 300ms, commands: [SET]}, {type: ERROR, \
                 percentage: {value: 0}, commands: [DEL]}]}",
            );
        let stage = Stage::start(envoy, &world, &[("main", &[&server])]);
        let mut client = stage.client("10.0.0.1");
        let start = Instant::now();
        client.set("a", "1");
        // Envoy's timers count whole milliseconds from the start of the event loop's turn.
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
        assert_eq!(client.get("a"), Reply::Error("Fault Injected: Error".to_owned()));
        assert_eq!(client.call(&["DEL", "a"]), Reply::Number(1));
    });
}

#[test]
fn users_are_known_on_both_sides() {
    each_envoy(|envoy| {
        let acl = ["--user", "bob", "on", ">upstream", "allkeys", "allcommands", "--user", "default", "off"];
        let server = Server::start(&acl);
        let world = service("main", "10.0.0.1")
            + "---\n{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: redis}, type: meltemi.io/redis, stringData: {token: upstream, who: bob}}\n"
            + &resource(
                "RedisService",
                "main",
                "{host: [main], settings: {auth: {plain: {username: ann, password: p}}}}",
            )
            + &resource(
                "RedisDestination",
                "main",
                "{host: main, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s, tcpKeepalive: {time: 30s}}, redis: {auth: \
                 {secret: {name: s, usernameField: who}}}}}}",
            );
        let stage = Stage::start(envoy, &world, &[("main", &[&server])]);
        let mut client = stage.client("10.0.0.1");
        assert!(matches!(client.call(&["AUTH", "bob", "upstream"]), Reply::Error(_)));
        assert!(matches!(client.get("a"), Reply::Error(_)));
        assert_eq!(client.call(&["AUTH", "ann", "p"]), text("OK"));
        client.set("a", "1");
        assert_eq!(client.get("a"), text("1"));
    });
}

#[test]
fn slow_commands_fail_in_time_and_are_counted() {
    each_envoy(|envoy| {
        let server = Server::start(&[]);
        let world = service("main", "10.0.0.1")
            + &resource(
                "RedisService",
                "main",
                "{host: [main], settings: {opTimeout: 200ms, enableCommandStats: true, maxBufferSizeBeforeFlush: 1024, \
                 bufferFlushTimeout: 5ms}}",
            );
        let stage = Stage::start(envoy, &world, &[("main", &[&server])]);
        let mut client = stage.client("10.0.0.1");
        // A busy machine may take longer for it.
        eventually("a command is in time", || (client.call(&["SET", "a", "1"]) == text("OK")).then_some(()));
        assert_eq!(server.client().call(&["CLIENT", "PAUSE", "600000"]), text("OK"));
        assert!(matches!(client.get("a"), Reply::Error(_)));
        assert_eq!(stage.stat(r"upstream_commands\.set\.success$"), 1);
        assert_eq!(stage.stat(r"upstream_commands\.get\.total$"), 1);
    });
}

#[test]
fn keys_are_divided_among_servers_and_tags_kept_together() {
    each_envoy(|envoy| {
        let servers = [Server::start(&[]), Server::start(&[]), Server::start(&[])];
        let world = service("main", "10.0.0.1")
            + &resource("RedisService", "main", "{host: [main], settings: {enableHashtagging: true}}");
        let stage = Stage::start(envoy, &world, &[("main", &servers.each_ref())]);
        let mut client = stage.client("10.0.0.1");
        for number in 0..60 {
            client.set(&format!("key{number}"), "1");
            client.set(&format!("{{tag}}{number}"), "1");
        }
        let mut again = stage.client("10.0.0.1");
        assert!((0..60).all(|number| again.get(&format!("key{number}")) == text("1")));
        let with = |pattern: &str| {
            let found = servers.each_ref().map(|server| match server.client().call(&["KEYS", pattern]) {
                Reply::List(keys) => keys.len(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.iter().sum::<usize>(), 60);
            found.iter().filter(|keys| **keys > 0).count()
        };
        assert_eq!(with("key*"), 3);
        assert_eq!(with("{tag}*"), 1);
    });
}

#[test]
fn a_redis_cluster_is_found_and_read_from_its_replicas() {
    each_envoy(|envoy| {
        let nodes: Vec<Server> = (0..6).map(|_| Server::start_node()).collect();
        join(&nodes);
        let (masters, replicas) = nodes.split_at(3);
        let endpoint = nodes[0].address;
        let world = service("cluster", "10.0.0.1")
            + &service("follows", "10.0.0.2")
            + &service("plain", "10.0.0.3")
            + &resource("RedisService", "cluster", "{host: [cluster], settings: {readPolicy: REPLICA}}")
            + &resource("RedisService", "plain", "{host: [plain]}")
            + &resource("RedisService", "follows", "{host: [follows], settings: {enableRedirection: true}}")
            + &resource(
                "RedisDestination",
                "cluster",
                &format!(
                    "{{host: cluster, trafficPolicy: {{connectionPool: {{redis: {{mode: CLUSTER, discoveryEndpoints: ['{endpoint}']}}}}}}}}"
                ),
            );
        let first = &[&nodes[0]][..];
        let stage = Stage::start(envoy, &world, &[("cluster", first), ("follows", first), ("plain", first)]);
        let mut client = stage.client("10.0.0.1");
        // Nothing is sent until the servers are known.
        eventually("the servers are known", || (client.call(&["SET", "a", "1"]) == text("OK")).then_some(()));
        for number in 0..30 {
            client.set(&format!("key{number}"), "1");
        }
        assert!(masters.iter().all(|master| master.count("set") > 0));
        let read = || (0..30).map(|number| stage.client("10.0.0.1").get(&format!("key{number}")));
        eventually("the replicas have every key", || read().all(|reply| reply == text("1")).then_some(()));
        assert!(masters.iter().all(|master| master.count("get") == 0));
        assert!(replicas.iter().all(|replica| replica.count("get") > 0));

        // By one node alone, with redirections followed and without.
        let mut follower = stage.client("10.0.0.2");
        let replies: Vec<Reply> = (0..30).map(|number| follower.get(&format!("key{number}"))).collect();
        assert!(replies.iter().all(|reply| *reply == text("1")), "{replies:?}");
        let mut plain = stage.client("10.0.0.3");
        let mut replies = (0..30).map(|number| plain.get(&format!("key{number}")));
        assert!(replies.any(|reply| matches!(reply, Reply::Error(error) if error.starts_with("MOVED "))));
    });
}
