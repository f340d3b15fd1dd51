//! The rules of Aeraki's Redis kinds.

use std::collections::BTreeMap;

use super::notes::Notes;
use super::text;
use crate::api::aeraki::{
    RedisAuth, RedisDestinationSpec, RedisFault, RedisFaultKind, RedisMode, RedisRoute, RedisServiceSpec,
    RedisSettings, RedisTarget, RedisUpstream, TcpKeepalive,
};

pub(super) fn service(notes: &mut Notes, spec: &RedisServiceSpec) {
    if spec.host.is_empty() {
        notes.error_at("host", "no host; name the services that this is for");
    }
    notes.each("host", &spec.host, |notes, host| text::host(notes, host));
    notes.some("settings", spec.settings.as_ref(), settings);
    routes(notes, &spec.redis);
    notes.each("faults", &spec.faults, fault);
}

fn settings(notes: &mut Notes, settings: &RedisSettings) {
    notes.some("auth", settings.auth.as_ref(), auth);
    notes.some("opTimeout", settings.op_timeout.as_ref(), |notes, timeout| {
        text::positive_duration(notes, timeout);
    });
    notes.some("bufferFlushTimeout", settings.buffer_flush_timeout.as_ref(), |notes, timeout| {
        text::positive_duration(notes, timeout);
    });
    let collects = settings.max_buffer_size_before_flush.is_some_and(|bytes| bytes > 0);
    if settings.buffer_flush_timeout.is_some() && !collects {
        notes.field("bufferFlushTimeout", |notes| {
            notes.warn("has no effect: nothing is collected without maxBufferSizeBeforeFlush");
        });
    }
    if settings.max_upstream_unknown_connections.is_some() && !settings.enable_redirection {
        notes.field("maxUpstreamUnknownConnections", |notes| {
            notes.warn("has no effect: redirections are not followed without enableRedirection");
        });
    }
}

fn auth(notes: &mut Notes, auth: &RedisAuth) {
    match (&auth.secret, &auth.plain) {
        (None, None) => notes.error("has no password; write secret or plain"),
        (Some(_), Some(_)) => notes.error("has two passwords; write secret or plain"),
        _ => {}
    }
    notes.some("secret", auth.secret.as_ref(), |notes, secret| {
        notes.field("name", |notes| match &*secret.name {
            "" => notes.error("is empty or missing; name the Secret"),
            name => text::host(notes, name),
        });
        for (field, key) in
            [("passwordField", &secret.password_field), ("usernameField", &secret.username_field)]
        {
            if key.as_deref() == Some("") {
                notes.error_at(field, "is empty; name a field of the Secret, or leave it out");
            }
        }
    });
    notes.some("plain", auth.plain.as_ref(), |notes, plain| {
        text::not_empty(notes, "password", &plain.password, "write the password, or better a secret");
    });
}

fn routes(notes: &mut Notes, routes: &[RedisRoute]) {
    let mut prefixes: BTreeMap<&str, usize> = BTreeMap::new();
    notes.field("redis", |notes| {
        for (index, route) in routes.iter().enumerate() {
            let key = route.matches.as_ref().and_then(|matches| matches.key.as_ref());
            let prefix = key.map_or("", |key| &key.prefix);
            notes.item(index, |notes| {
                match prefixes.get(prefix) {
                    Some(before) if prefix.is_empty() => {
                        notes.error(format_args!(
                            "redis[{before}] also matches all keys; at most one route can"
                        ));
                    }
                    Some(before) => notes.error(format_args!(
                        "the prefix {prefix:?} is that of redis[{before}] too; leave one out"
                    )),
                    None => {}
                }
                if key.is_some_and(|key| key.remove_prefix && key.prefix.is_empty()) {
                    notes.field("match", |notes| {
                        notes.field("key", |notes| {
                            notes.field("removePrefix", |notes| {
                                notes.warn("has no effect: there is no prefix")
                            });
                        })
                    });
                }
                match &route.route {
                    Some(one) => notes.field("route", |notes| target(notes, one)),
                    None => notes.error_at("route", "is missing; write where the commands go"),
                }
                notes.each("mirror", &route.mirror, |notes, mirror| {
                    notes.field("route", |notes| target(notes, &mirror.route));
                    notes.some("percentage", mirror.percentage.as_ref(), text::percent);
                });
            });
            prefixes.entry(prefix).or_insert(index);
        }
    });
}

fn target(notes: &mut Notes, target: &RedisTarget) {
    notes.field("host", |notes| text::host(notes, &target.host));
    notes.some("port", target.port.as_ref(), |notes, port| text::port(notes, *port));
}

fn fault(notes: &mut Notes, fault: &RedisFault) {
    notes.some("percentage", fault.percentage.as_ref(), text::percent);
    match (&fault.delay, fault.kind) {
        (None, RedisFaultKind::Delay) => {
            notes.error_at("delay", "is missing; write how long commands are delayed, or type: ERROR");
        }
        (Some(delay), _) => notes.field("delay", |notes| _ = text::positive_duration(notes, delay)),
        (None, RedisFaultKind::Error) => {}
    }
    notes.each("commands", &fault.commands, |notes, command| {
        if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            notes.error(format_args!("{command:?} is not a command; write its name, such as GET"));
        }
    });
}

pub(super) fn destination(notes: &mut Notes, spec: &RedisDestinationSpec) {
    notes.field("host", |notes| text::host(notes, &spec.host));
    let Some(pool) = spec.traffic_policy.as_ref().and_then(|policy| policy.connection_pool.as_ref()) else {
        return;
    };
    notes.field("trafficPolicy", |notes| {
        notes.field("connectionPool", |notes| {
            notes.some("tcp", pool.tcp.as_ref(), |notes, tcp| {
                notes.some("connectTimeout", tcp.connect_timeout.as_ref(), |notes, timeout| {
                    text::positive_duration(notes, timeout);
                });
                if tcp.max_connections == Some(0) {
                    notes.error_at("maxConnections", "must be at least 1; leave it out for no limit");
                }
                notes.some("tcpKeepalive", tcp.tcp_keepalive.as_ref(), keepalive);
            });
            notes.some("redis", pool.redis.as_ref(), upstream);
        });
    });
}

fn keepalive(notes: &mut Notes, keepalive: &TcpKeepalive) {
    for (field, time) in [("time", &keepalive.time), ("interval", &keepalive.interval)] {
        notes.some(field, time.as_ref(), |notes, time| {
            if text::positive_duration(notes, time).is_some_and(|time| time.subsec_nanos() > 0) {
                notes.error("has parts of a second, which TCP does not know; write whole seconds");
            }
        });
    }
}

fn upstream(notes: &mut Notes, upstream: &RedisUpstream) {
    notes.some("auth", upstream.auth.as_ref(), auth);
    notes.each("discoveryEndpoints", &upstream.discovery_endpoints, |notes, endpoint| {
        let parts = endpoint.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        match parts {
            Some((host, Ok(port))) if !host.is_empty() && port > 0 => {}
            _ => notes.error(format_args!("{endpoint:?} is not an endpoint; write host:port")),
        }
    });
    if upstream.mode == RedisMode::Proxy && !upstream.discovery_endpoints.is_empty() {
        notes.field("discoveryEndpoints", |notes| notes.warn("have no effect without mode: CLUSTER"));
    }
}
