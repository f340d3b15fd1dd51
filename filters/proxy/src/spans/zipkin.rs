//! Spans in the format of Zipkin: [JSON of its second version](https://zipkin.io/zipkin-api/).

use core::net::IpAddr;

use meltemi_otlp::{Span, split};

use crate::plan::escape;

/// What Zipkin calls the attribute with the kind of an error: a span that has it is one that failed.
const ERROR: &str = "error";

/// Appends a span of a service to others.
#[inline(never)]
pub(super) fn write(span: &Span<'_>, service: &str, spans: &mut Vec<u8>) {
    let mut out = String::from("{");
    for (name, id) in ["traceId", "id", "parentId"].into_iter().zip(span.ids) {
        write_text(name, id, &mut out);
    }
    write_text("kind", if span.is_server { "SERVER" } else { "CLIENT" }, &mut out);
    write_text("name", &[span.service, "/", span.method].concat(), &mut out);
    let [start, end] = span.times.map(|time| time / 1000);
    write_number("timestamp", start, &mut out);
    // None is 0.
    write_number("duration", end.saturating_sub(start).max(1), &mut out);
    write_name("localEndpoint", &mut out);
    out.push('{');
    write_text("serviceName", service, &mut out);
    end_object(&mut out);
    let (host, port) = split(if span.is_server { span.client } else { span.server });
    // Envoy knows endpoints by other names too, such as the path of a socket. Those are tags alone: one that is no address here
    // may have a collector refuse the whole batch.
    if let Ok(ip) = host.parse::<IpAddr>() {
        write_name("remoteEndpoint", &mut out);
        out.push('{');
        write_text(if ip.is_ipv6() { "ipv6" } else { "ipv4" }, host, &mut out);
        write_number("port", port, &mut out);
        end_object(&mut out);
    }
    write_name("tags", &mut out);
    out.push('{');
    out.push_str(core::str::from_utf8(span.tags).unwrap_or_default());
    for (name, value) in span.texts() {
        write_text(if name == "error.type" { ERROR } else { name }, value, &mut out);
    }
    for (name, value) in span.numbers() {
        write_text(name, &value.to_string(), &mut out);
    }
    end_object(&mut out);
    end_object(&mut out);
    spans.extend_from_slice(out.as_bytes());
}

/// Appends a tag to those of a span, if it has a value.
pub(crate) fn write_tag(name: &str, value: &str, tags: &mut Vec<u8>) {
    let mut out = String::new();
    write_text(name, value, &mut out);
    tags.extend_from_slice(out.as_bytes());
}

/// The body of the request that gives a collector these spans.
pub(super) fn request(mut spans: Vec<u8>) -> Vec<u8> {
    // Behind each is a comma.
    if let Some(last) = spans.last_mut() {
        *last = b']';
    }
    spans.insert(0, b'[');
    spans
}

/// Appends a member of an object, if it has a value, and what parts it from the next.
#[inline(never)]
fn write_text(name: &str, value: &str, out: &mut String) {
    if !value.is_empty() {
        write_name(name, out);
        out.push('"');
        escape(value, out);
        out.push_str("\",");
    }
}

/// The same of a number, which is not known if it is 0.
#[inline(never)]
fn write_number(name: &str, value: u64, out: &mut String) {
    if value > 0 {
        write_name(name, out);
        out.push_str(&value.to_string());
        out.push(',');
    }
}

/// Appends the name of a member.
#[inline(never)]
fn write_name(name: &str, out: &mut String) {
    out.push('"');
    escape(name, out);
    out.push_str("\":");
}

/// Ends an object that has a member, and parts it from what is next.
fn end_object(out: &mut String) {
    out.pop();
    out.push_str("},");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn endpoints_are_those_that_have_addresses() {
        for (server, endpoint) in [
            ("10.0.0.1:20880", json!({"ipv4": "10.0.0.1", "port": 20880})),
            ("[fd00::1]:80", json!({"ipv6": "fd00::1", "port": 80})),
            ("10.0.0.1", json!({"ipv4": "10.0.0.1"})),
            ("10.0.0.1:0", json!({"ipv4": "10.0.0.1"})),
            ("[fe80::1%eth0]:80", Value::Null),
            ("envoy://connect_originate/10.0.0.1:8080", Value::Null),
            ("10.0.0.1:65536", Value::Null),
            ("10.0.0.1:zyxwv", Value::Null),
            ("/run/demo.sock", Value::Null),
            ("@internal", Value::Null),
            ("", Value::Null),
        ] {
            let mut spans = Vec::new();
            write(&Span { server, ..Span::default() }, "shop", &mut spans);
            let spans: Value = serde_json::from_slice(&request(spans)).unwrap();
            assert_eq!(spans[0]["remoteEndpoint"], endpoint, "{server}");
        }
    }
}
