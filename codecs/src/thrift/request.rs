use super::cursor::{Read, malformed, unsupported};
use super::info::{self, Key};
use super::transport::{Envelope, Transport};
use crate::{Depth, Head};

/// Kitex's text header that names the service of the interface description.
const SERVICE: &[u8] = b"isn";

/// The integer header that repeats the method.
const TO_METHOD: u16 = 9;

/// Reads the attributes of a request into `head`.
pub(super) fn read(request: &[u8], depth: Depth, head: &mut Head) -> Read<()> {
    let envelope = Envelope::read(request)?;
    let (message, bytes) = envelope.message(request)?;
    let name = bytes.get(message.name).and_then(|name| str::from_utf8(name).ok());
    let Some(name) = name else { return malformed("name of a message", envelope.payload) };
    let (service, method) = match name.split_once(':') {
        Some((service, method)) => (Some(service), method),
        None => (None, name),
    };
    head.push("method", method);
    if let Some(service) = service {
        head.push("service", service);
    }
    // Apache's servers for C++ pass over what is empty, and then over the colon too.
    let has_odd_colons = |service: &str| service.is_empty() || method.is_empty() || method.contains(':');
    if depth == Depth::Verified && service.is_some_and(has_odd_colons) {
        return unsupported("colons in the name", envelope.payload);
    }
    let is_kitex = matches!(envelope.transport, Transport::TtHeader { .. });
    if !envelope.has_headers() || (depth <= Depth::Head && (!is_kitex || service.is_some())) {
        return Ok(());
    }
    let (mut named, mut called, mut count) = (None, None, 0_usize);
    let mut wrong = None;
    let read = info::each(envelope.headers(request), envelope.transport, &mut |info| {
        let value = str::from_utf8(info.value).ok();
        match info.key {
            Key::Text(SERVICE) if is_kitex => named = named.or(value),
            Key::Number(info::TO_SERVICE) => called = called.or(value),
            Key::Number(TO_METHOD) if value != Some(method) => wrong = Some("header with the method"),
            _ => {}
        }
        if info.is_lasting() {
            wrong = Some("header of a connection");
        }
        if depth <= Depth::Head {
            return;
        }
        count = count.saturating_add(1);
        let mut is_told = false;
        if let Some(value) = value {
            info.key.with_name(&mut |name| {
                is_told = !head.has_attachment(name);
                // What the message does not say no header says for it.
                if !matches!(name, "method" | "service") {
                    head.push_attachment(name, value);
                }
            });
        }
        if !is_told {
            wrong = Some("header that is repeated, or no text");
        }
    });
    if let Some(service) = named.or(called).filter(|_| is_kitex) {
        head.push("service", service);
    }
    read?;
    if count > Head::MOST_ATTACHMENTS {
        return unsupported("number of attachments", envelope.infos.start);
    }
    if depth < Depth::Verified {
        return Ok(());
    }
    if service.is_some() && named.is_some() && service != named {
        wrong = Some("header with the service");
    }
    wrong.map_or(Ok(()), |what| unsupported(what, envelope.infos.start))
}
