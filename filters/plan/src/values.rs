//! Values that are made for each call: text with command operators, in the format of Envoy's access logs and headers.

use meltemi_codecs::{Codec, Depth};

use super::{
    error::{Path, Result, fail},
    source,
};

/// A value: its parts follow one another.
pub type Value = Box<[Part]>;

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(Box<str>),
    /// What an operator stands for.
    Operator {
        /// What it stands for.
        what: Operator,
        /// What it stands for if there is nothing of that.
        or: Option<Operator>,
        /// The most bytes of it that are written.
        most: usize,
    },
}

/// What an operator stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// An attribute of the request: `%REQ(name)%`.
    Attribute(Box<str>),
    /// The address of the client: `%DOWNSTREAM_REMOTE_ADDRESS%`.
    Peer,
    /// The same without its port: `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`, or the attribute `source.ip`.
    Ip,
    /// The client's identity as a URI: `%DOWNSTREAM_PEER_URI_SAN%`.
    Uri,
    /// The same without its scheme: the attribute `source.principal`.
    Principal,
    /// Its namespace: the attribute `source.namespace`.
    Namespace,
    /// The cluster that the call goes to: `%UPSTREAM_CLUSTER%`.
    Cluster,
    /// The endpoint of the try: `%UPSTREAM_HOST%`.
    Host,
    /// How many tries there have been, this one included: `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`.
    Attempt,
}

/// The most bytes that one operator writes.
pub const MOST_WRITTEN: usize = 1024;

/// The most operators of one value.
const MOST_OPERATORS: usize = 8;

const KNOWN: &str = "%REQ(name)%, %ROUTE_NAME%, %UPSTREAM_CLUSTER%, %UPSTREAM_HOST%, \
    %UPSTREAM_REQUEST_ATTEMPT_COUNT%, %DOWNSTREAM_REMOTE_ADDRESS%, \
    %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%, %DOWNSTREAM_PEER_URI_SAN%";

/// Reads a value of a route of that name.
pub(super) fn value(path: &Path<'_>, text: &str, route: &str) -> Result<Value> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut operators = 0_usize;
    let mut rest = text;
    while let Some((before, operator, after)) = next(path, rest)? {
        plain.push_str(before);
        rest = after;
        if operator.is_empty() {
            plain.push('%');
            continue;
        }
        let (what, or, most) = command(path, operator)?;
        let Some(what) = what else {
            plain.push_str(route.get(..route.floor_char_boundary(most)).unwrap_or_default());
            continue;
        };
        if !plain.is_empty() {
            parts.push(Part::Text(core::mem::take(&mut plain).into()));
        }
        parts.push(Part::Operator { what, or, most });
        operators = operators.saturating_add(1);
    }
    if operators > MOST_OPERATORS {
        return fail(path, format!("has {operators} operators; at most {MOST_OPERATORS} are allowed"));
    }
    plain.push_str(rest);
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts.into())
}

/// Finds the next operator: what is before it, what is between its percent signs, and what follows.
pub(super) fn next<'a>(path: &Path<'_>, text: &'a str) -> Result<Option<(&'a str, &'a str, &'a str)>> {
    let Some((before, after)) = text.split_once('%') else { return Ok(None) };
    let Some(end) = end(after.as_bytes()) else {
        return fail(path, "\"%\" opens an operator that does not end; a percent sign is written %%");
    };
    let (operator, after) = after.split_at(end);
    Ok(Some((before, operator, after.get(1..).unwrap_or_default())))
}

/// Where the operator ends that begins this text: at a percent sign, but for those in its brackets.
fn end(text: &[u8]) -> Option<usize> {
    let find = |from: usize, wanted: u8| {
        let place = text.get(from..)?.iter().position(|byte| *byte == wanted)?;
        Some(place.saturating_add(from))
    };
    let is_name = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    let name = text.iter().take_while(|byte| is_name(byte)).count();
    let has_brackets = text.get(name) == Some(&b'(');
    let close = if has_brackets { find(name, b')') } else { None };
    close.and_then(|close| find(close, b'%')).or_else(|| find(0, b'%'))
}

/// Reads what is between two percent signs: what it stands for, or else, and how many bytes at most. The name of the
/// route, which is known, is none of the operators.
fn command(path: &Path<'_>, text: &str) -> Result<(Option<Operator>, Option<Operator>, usize)> {
    let (command, most) = length(path, text)?;
    let most = most.unwrap_or(MOST_WRITTEN);
    if most > MOST_WRITTEN {
        return fail(path, format!("\"{most}\" is no length; write 1 to {MOST_WRITTEN}"));
    }
    let (what, or) = match (request(command), command) {
        (Some((name, other)), _) => {
            (Some(attribute(path, name)?), other.map(|name| attribute(path, name)).transpose()?)
        }
        (None, "ROUTE_NAME") => (None, None),
        (None, command) => match operator(command) {
            Some(what) => (Some(what), None),
            None => return unknown(path, text, KNOWN),
        },
    };
    Ok((what, or, most))
}

/// An operator without the most bytes of it that are written, and those, if it says them.
pub(super) fn length<'a>(path: &Path<'_>, text: &'a str) -> Result<(&'a str, Option<usize>)> {
    match text.rsplit_once(':') {
        Some((command, most)) if !most.ends_with(')') => match most.parse() {
            Ok(most) if most > 0 => Ok((command, Some(most))),
            _ => fail(path, format!("{most:?} is no length; write 1 to {MOST_WRITTEN}")),
        },
        _ => Ok((text, None)),
    }
}

/// The name in `REQ(name)`, and the other of `REQ(name?other)`.
pub(super) fn request(command: &str) -> Option<(&str, Option<&str>)> {
    let names = command.strip_prefix("REQ(")?.strip_suffix(')')?;
    Some(names.split_once('?').map_or((names, None), |(name, other)| (name, Some(other))))
}

/// What an operator without names stands for.
pub(super) fn operator(command: &str) -> Option<Operator> {
    Some(match command {
        "DOWNSTREAM_REMOTE_ADDRESS" => Operator::Peer,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::Ip,
        "DOWNSTREAM_PEER_URI_SAN" => Operator::Uri,
        "UPSTREAM_CLUSTER" => Operator::Cluster,
        "UPSTREAM_HOST" => Operator::Host,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Operator::Attempt,
        _ => return None,
    })
}

/// No operator is called so.
pub(super) fn unknown<T>(path: &Path<'_>, text: &str, known: &str) -> Result<T> {
    fail(path, format!("no operator %{text}%; write one of {known}, and %% for a percent sign"))
}

/// The attribute of the call or of its connection that has this name.
pub(super) fn attribute(path: &Path<'_>, name: &str) -> Result<Operator> {
    match name {
        source::IP => Ok(Operator::Ip),
        source::PRINCIPAL => Ok(Operator::Principal),
        source::NAMESPACE => Ok(Operator::Namespace),
        "" => fail(path, "%REQ()% names no attribute; name one, such as %REQ(method)%"),
        name if name.starts_with(':') => {
            fail(path, format!("{name:?} is of HTTP; name an attribute of the call, such as %REQ(method)%"))
        }
        name if name.starts_with(source::PREFIX) => source::unknown(path),
        name => Ok(Operator::Attribute(name.into())),
    }
}

/// How far a request must be read to make a value; `None` where nothing of it is asked for.
pub(super) fn depth(value: &[Part], codec: &dyn Codec) -> Option<Depth> {
    let operators = value.iter().flat_map(|part| match part {
        Part::Text(_) => [None, None],
        Part::Operator { what, or, .. } => [Some(what), or.as_ref()],
    });
    let depths = operators.flatten().filter_map(|operator| match operator {
        Operator::Attribute(name) => Some(codec.depth(name)),
        _ => None,
    });
    depths.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> core::result::Result<Value, String> {
        value(&Path::Root, text, "main").map_err(|error| error.message)
    }

    fn operator(what: Operator) -> Part {
        Part::Operator { what, or: None, most: MOST_WRITTEN }
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn what_has_no_operator_is_text() {
        for (written, meant) in [
            ("", ""),
            ("plain é😀", "plain é😀"),
            ("100%%", "100%"),
            ("%%REQ(x)%%", "%REQ(x)%"),
            ("a %ROUTE_NAME% b", "a main b"),
            ("%ROUTE_NAME:2%.", "ma."),
        ] {
            assert_eq!(read(written).unwrap()[..], [text(meant)], "{written}");
        }
    }

    #[test]
    fn operators_stand_between_text() {
        let named = |name: &str| Operator::Attribute(name.into());
        assert_eq!(
            read("%REQ(method)%/%UPSTREAM_HOST%!").unwrap()[..],
            [operator(named("method")), text("/"), operator(Operator::Host), text("!")]
        );
        let either = Part::Operator { what: named("a"), or: Some(Operator::Namespace), most: 8 };
        assert_eq!(read("%REQ(a?source.namespace):8%").unwrap()[..], [either]);
        assert_eq!(read("%REQ(a:b)%").unwrap()[..], [operator(named("a:b"))]);
        for (written, meant) in [
            ("%DOWNSTREAM_REMOTE_ADDRESS%", Operator::Peer),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", Operator::Ip),
            ("%REQ(source.ip)%", Operator::Ip),
            ("%DOWNSTREAM_PEER_URI_SAN%", Operator::Uri),
            ("%REQ(source.principal)%", Operator::Principal),
            ("%REQ(source.namespace)%", Operator::Namespace),
            ("%UPSTREAM_CLUSTER%", Operator::Cluster),
            ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", Operator::Attempt),
        ] {
            assert_eq!(read(written).unwrap()[..], [operator(meant)], "{written}");
        }
    }

    #[test]
    fn what_is_no_operator_is_refused_with_the_mend() {
        let open = "\"%\" opens an operator that does not end; a percent sign is written %%";
        for (written, message) in [
            ("100%", open),
            ("%REQ(x)% 5%", open),
            ("%REQ()%", "%REQ()% names no attribute; name one, such as %REQ(method)%"),
            ("%REQ(a?)%", "%REQ()% names no attribute; name one, such as %REQ(method)%"),
            ("%REQ(:path)%", "\":path\" is of HTTP; name an attribute of the call, such as %REQ(method)%"),
            ("%REQ(x):0%", "\"0\" is no length; write 1 to 1024"),
            ("%REQ(x):2000%", "\"2000\" is no length; write 1 to 1024"),
            (
                "%REQ(source.port)%",
                "no attribute of the connection; write one of source.ip, source.namespace, source.principal",
            ),
            (&"%REQ(x)%".repeat(9), "has 9 operators; at most 8 are allowed"),
        ] {
            assert_eq!(read(written), Err(message.to_owned()), "{written}");
        }
        for written in ["%RESP(x)%", "%START_TIME%", "%req(x)%", "%REQ(x% %", "%REQ%", "% %"] {
            let message = read(written).unwrap_err();
            assert!(message.starts_with("no operator %") && message.ends_with("%% for a percent sign"));
        }
    }
}
