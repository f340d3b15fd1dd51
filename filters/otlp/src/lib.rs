//! Spans in the format of [OTLP](https://github.com/open-telemetry/opentelemetry-proto), as collectors of OpenTelemetry take
//! them.
#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use meltemi_codecs::protobuf::{Fields, enclose, write_bytes, write_fixed64, write_number, write_varint};

/// The method of collectors, as the path of a request.
pub const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The span of a call, or of a try of it. What is empty is not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span<'a> {
    /// The trace that it is of, the span itself, and the one that it is a part of, in hexadecimal digits.
    pub ids: [&'a str; 3],
    /// When it began and ended, in nanoseconds of the Unix time.
    pub times: [u64; 2],
    /// Whether it is that of a server; else it is that of a client.
    pub is_server: bool,
    /// The name of the protocol.
    pub protocol: &'a str,
    /// What is called.
    pub service: &'a str,
    /// The method of it.
    pub method: &'a str,
    /// How it ended, in the word that metrics have.
    pub outcome: &'a str,
    /// The same as Envoy's response flags.
    pub flags: &'a str,
    /// The status of the protocol, if it ended with one.
    pub status: &'a str,
    /// The address of the server.
    pub server: &'a str,
    /// That of the client.
    pub client: &'a str,
    /// The cluster that was chosen.
    pub cluster: &'a str,
    /// The route that it took.
    pub route: &'a str,
    /// Whether it is a copy, whose answer goes nowhere.
    pub is_copy: bool,
    /// The number of the try, from 1.
    pub number: u32,
    /// Bytes of the request and of the answer.
    pub sizes: [usize; 2],
    /// Further attributes, as [`write_tag`] writes them.
    pub tags: &'a [u8],
}

/// The outcomes that are no errors.
const FINE: [&str; 3] = ["success", "sent", "cancelled"];

/// Kinds of spans.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// The code of a span's status.
const ERROR: u64 = 2;

/// The field with the attributes of a span, and of a resource.
const OF_SPAN: u32 = 9;
const OF_RESOURCE: u32 = 1;

impl Span<'_> {
    /// Whether it ended with an error.
    pub fn is_error(&self) -> bool {
        !FINE.contains(&self.outcome)
    }

    /// Its attributes that are text, of which the empty ones are not there.
    pub fn texts(&self) -> [(&'static str, &str); 11] {
        [
            // OpenTelemetry has another name for one.
            ("rpc.system", if self.protocol == "dubbo" { "apache_dubbo" } else { self.protocol }),
            ("rpc.service", self.service),
            ("rpc.method", self.method),
            ("rpc.response.status_code", self.status),
            ("error.type", if self.is_error() { self.outcome } else { "" }),
            ("server.address", split(self.server).0),
            ("client.address", split(self.client).0),
            ("upstream_cluster", self.cluster),
            ("response_flags", self.flags),
            ("meltemi.route", self.route),
            ("meltemi.mirror", if self.is_copy { "true" } else { "" }),
        ]
    }

    /// Those that are numbers.
    pub fn numbers(&self) -> [(&'static str, u64); 4] {
        let [request, response] = self.sizes.map(|size| size as u64);
        [
            ("server.port", split(self.server).1),
            ("meltemi.try", self.number.into()),
            ("request_size", request),
            ("response_size", response),
        ]
    }

    /// Appends it to others.
    #[inline(never)]
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for (number, id) in [1, 2, 4].into_iter().zip(self.ids) {
            write_id(number, id, out);
        }
        write_bytes(5, [self.service, "/", self.method].concat().as_bytes(), out);
        write_number(6, if self.is_server { SERVER } else { CLIENT }, out);
        for (number, time) in [7, 8].into_iter().zip(self.times) {
            write_fixed64(number, time, out);
        }
        for (name, value) in self.texts() {
            write_text(OF_SPAN, name, value, out);
        }
        out.extend_from_slice(self.tags);
        for (name, value) in self.numbers() {
            write_name(OF_SPAN, name, of_varint(value).saturating_add(1), out);
            write_number(3, value, out);
        }
        if self.is_error() {
            let status = out.len();
            write_number(3, ERROR, out);
            enclose(15, status, out);
        }
        enclose(2, start, out);
    }
}

/// Appends an attribute of a span that has none of that name, if it has a value.
pub fn write_tag(name: &str, value: &str, out: &mut Vec<u8>) {
    write_text(OF_SPAN, name, value, out);
}

/// The request that gives a collector `spans` of a service.
#[inline(never)]
pub fn request(service: &str, spans: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_text(OF_RESOURCE, "service.name", service, &mut out);
    enclose(1, 0, &mut out);
    let start = out.len();
    write_bytes(1, b"meltemi", &mut out);
    enclose(1, start, &mut out);
    out.extend_from_slice(spans);
    enclose(2, start, &mut out);
    enclose(1, 0, &mut out);
    out
}

/// How many of the spans a collector has not taken, by its answer, and why.
#[inline(never)]
pub fn rejected(answer: &[u8]) -> (u64, &str) {
    let mut rejected = (0, "");
    let partial = Fields::new(answer).flatten().find(|field| field.number == 1);
    for field in partial.and_then(|partial| partial.fields()).into_iter().flatten().flatten() {
        match field.number {
            1 => rejected.0 = field.value.varint().unwrap_or(0),
            2 => rejected.1 = field.value.text().unwrap_or_default(),
            _ => {}
        }
    }
    rejected
}

/// The host and the port of an address; of what has no port, all of it and 0.
#[inline(never)]
pub fn split(address: &str) -> (&str, u64) {
    let Some((host, digits)) = address.rsplit_once(':') else { return (address, 0) };
    let port = digits.parse::<u16>().ok().filter(|_| !digits.starts_with('+'));
    let Some(port) = port else { return (address, 0) };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port.into())
}

/// Appends an id of so many digits, if there is one.
fn write_id(number: u32, digits: &str, out: &mut Vec<u8>) {
    let value = |digit: u8| if digit > b'9' { digit.wrapping_sub(b'W') } else { digit & 15 };
    let mut id = [0; 16];
    let pairs = id.iter_mut().zip(digits.as_bytes().chunks_exact(2));
    pairs.for_each(|(byte, pair)| *byte = pair.iter().fold(0, |byte, digit| byte << 4 | value(*digit)));
    if !digits.is_empty() {
        write_bytes(number, id.get(..digits.len() >> 1).unwrap_or_default(), out);
    }
}

/// Appends an attribute, if it has a value.
fn write_text(field: u32, name: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        write_name(field, name, of_bytes(value.len()), out);
        write_bytes(1, value.as_bytes(), out);
    }
}

/// Appends an attribute up to its value, which follows in so many bytes.
#[inline(never)]
fn write_name(field: u32, name: &str, value: usize, out: &mut Vec<u8>) {
    write_varint(u64::from(field) << 3 | 2, out);
    write_varint(of_bytes(name.len()).saturating_add(of_bytes(value)) as u64, out);
    write_bytes(1, name.as_bytes(), out);
    write_varint(2 << 3 | 2, out);
    write_varint(value as u64, out);
}

/// The length of a field that holds so many bytes.
fn of_bytes(len: usize) -> usize {
    of_varint(len as u64).saturating_add(1).saturating_add(len)
}

/// The length of a varint.
#[inline(never)]
fn of_varint(value: u64) -> usize {
    let bits = u64::BITS.saturating_sub(value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_how_many_spans_were_not_taken() {
        assert_eq!(rejected(&[]), (0, ""));
        let mut answer = Vec::new();
        write_number(1, 3, &mut answer);
        write_bytes(2, b"too old", &mut answer);
        enclose(1, 0, &mut answer);
        assert_eq!(rejected(&answer), (3, "too old"));
        for end in 0..answer.len() {
            rejected(&answer[..end]);
        }
        assert_eq!(rejected(&[0xff; 16]), (0, ""));
    }

    #[test]
    fn addresses_are_split_where_they_have_ports() {
        for (address, host, port) in [
            ("10.0.0.1:20880", "10.0.0.1", 20880),
            ("[fd00::1]:80", "fd00::1", 80),
            ("demo:65535", "demo", 65535),
            ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
            ("envoy://connect_originate/10.0.0.1:8080", "envoy://connect_originate/10.0.0.1", 8080),
            ("demo:0", "demo", 0),
            ("@internal", "@internal", 0),
            ("demo:65536", "demo:65536", 0),
            ("demo:+80", "demo:+80", 0),
            ("/run/demo:zyxwv", "/run/demo:zyxwv", 0),
            ("demo:", "demo:", 0),
            ("", "", 0),
        ] {
            assert_eq!(split(address), (host, port), "{address}");
        }
    }

    #[test]
    fn lengths_are_those_of_what_is_written() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1 << bits) - 1] {
                let mut out = Vec::new();
                write_varint(value, &mut out);
                assert_eq!(of_varint(value), out.len(), "{value}");
            }
        }
        for len in [0, 1, 127, 128, 20_000] {
            let mut out = Vec::new();
            write_bytes(1, &vec![0; len], &mut out);
            assert_eq!(of_bytes(len), out.len());
        }
    }
}
