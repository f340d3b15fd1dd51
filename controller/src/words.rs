//! What libraries say of a text that people wrote, in the words of this command.

use std::error::Error;
use std::io;

use crate::place::Place;

/// Where a text stops being YAML, and why.
pub(crate) fn yaml(error: &serde_saphyr::Error) -> (Option<Place>, String) {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let error = error.without_snippet();
    let place = error
        .location()
        .map(|location| Place { line: number(location.line()), column: number(location.column()) });
    if let serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } = error {
        return (place, format!("duplicate key {key:?}; keep one of the two"));
    }
    let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let message = message.lines().next().unwrap_or_default();
    // The place comes before the message.
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let mends = [
        ("tab", "; indent by spaces"),
        ("quoted", "; a quote is not closed where it should be"),
        (
            "expected key",
            "; the line is indented otherwise than those that it belongs to, or a colon is missing",
        ),
    ];
    let mend = mends.iter().find(|(of, _)| message.contains(of)).map_or("", |(_, mend)| mend);
    (place, format!("not YAML: {message}{mend}"))
}

/// What the system says of a file.
pub(crate) fn file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "it is not UTF-8 text: binary, or saved in another encoding".to_owned(),
        _ => without_number(&error.to_string()),
    }
}

/// What became of a question to the API server.
pub(crate) fn cluster(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::InferConfig(error) => no_cluster(error),
        error => format!("the API server of the kubeconfig does not answer: {}", innermost(error)),
    }
}

/// Why no cluster is known.
pub(crate) fn no_cluster(error: &kube::config::InferConfigError) -> String {
    // What is said of pods is of no interest outside of one.
    let error: &dyn Error = error.source().unwrap_or(error);
    let error = error.to_string();
    let first = without_number(error.lines().next().unwrap_or_default());
    format!("{first}; set KUBECONFIG to use another kubeconfig")
}

/// The first cause of an error.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    without_number(&error.to_string())
}

/// An error of the system without its number.
fn without_number(text: &str) -> String {
    text.split(" (os error ").next().unwrap_or(text).to_owned()
}

/// What serde says of a value that is not what its field holds.
pub(crate) fn shape(message: &str) -> String {
    if let Some((variant, known)) = quoted_after(message, "unknown variant ") {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return format!("{variant:?} is none of its values; {}", instead(variant, &known));
    }
    if let Some((field, _)) = quoted_after(message, "missing field ") {
        return format!("{field} is missing");
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let found = match found.split_once(": ") {
        Some((what, found @ ("map" | "sequence"))) => format!("{what}: {}", plain_type(found)),
        _ => found.to_owned(),
    };
    format!("{found}, expected {}", plain_type(expected))
}

/// What is in backquotes after `start`, and the rest.
fn quoted_after<'a>(message: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(start)?.strip_prefix('`')?.split_once('`')
}

/// A type of serde's, of a schema or of Kubernetes by what people write for it.
pub(crate) fn plain_type(expected: &str) -> &str {
    match expected {
        "u8" => "a number of 0 to 255",
        "u16" => "a number of 0 to 65535",
        "u32" => "a whole number of 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i32" | "i64" | "integer" => "a whole number",
        "f32" | "f64" | "number" => "a number",
        "a sequence" | "sequence" | "array" => "a list",
        "a map" | "map" | "object" => "an object",
        "a boolean" | "boolean" => "true or false",
        "string" | "string or map" => "a string",
        "IntOrString" => "a whole number or a string",
        known if known.starts_with("struct ") => "an object",
        kind if kind.starts_with(char::is_uppercase) && !kind.contains(' ') => "an object",
        other => other,
    }
}

/// What to write instead of a name that is not known.
pub(crate) fn instead(name: &str, known: &[&str]) -> String {
    match (nearest(name, known.iter().copied()), known) {
        (Some(meant), _) => format!("did you mean {meant}?"),
        (None, [others @ .., last]) if !others.is_empty() => {
            format!("write {} or {last}", others.join(", "))
        }
        (None, known) => format!("write {}", known.concat()),
    }
}

/// The known name that differs little from `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| match known.eq_ignore_ascii_case(name) {
        true => 0,
        false => strsim::osa_distance(name, known),
    };
    let allowed = 1 + name.len() / 5;
    let near = known.map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= allowed);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// The start of a text, cut between letters.
pub(crate) fn shortened(text: &str, len: usize) -> String {
    const MORE: &str = "...";
    if text.len() <= len {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(len.saturating_sub(MORE.len()));
    format!("{}{MORE}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let known = ["hosts", "routes", "exportTo", "localRateLimit"];
        for (written, meant) in [
            ("host", Some("hosts")),
            ("ruotes", Some("routes")),
            ("exportto", Some("exportTo")),
            ("local_rate_limit", Some("localRateLimit")),
            ("localRatelimits", Some("localRateLimit")),
            ("timeout", None),
        ] {
            assert_eq!(nearest(written, known.into_iter()), meant, "{written}");
        }
    }

    #[test]
    fn what_serde_says_is_told_plainly() {
        for (said, told) in [
            (
                "unknown variant `Reject`, expected `default` or `reject`",
                "\"Reject\" is none of its values; did you mean reject?",
            ),
            (
                "unknown variant `drop`, expected one of `a`, `b`, `c`",
                "\"drop\" is none of its values; write a, b or c",
            ),
            ("unknown variant `x`, expected `ALLOW`", "\"x\" is none of its values; write ALLOW"),
            ("invalid type: integer `5`, expected a sequence", "invalid type: integer `5`, expected a list"),
            (
                "invalid value: integer `-1`, expected u16",
                "invalid value: integer `-1`, expected a number of 0 to 65535",
            ),
            ("invalid type: map, expected a string", "invalid type: an object, expected a string"),
            ("invalid type: sequence, expected string or map", "invalid type: a list, expected a string"),
            ("invalid type: null, expected ServicePort", "invalid type: null, expected an object"),
            (
                "invalid type: boolean `true`, expected IntOrString",
                "invalid type: boolean `true`, expected a whole number or a string",
            ),
            ("missing field `host`", "host is missing"),
            ("something else", "something else"),
        ] {
            assert_eq!(shape(said), told);
        }
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(shortened("aéé", 5), "aéé");
        assert_eq!(shortened("ééééé", 8), "éé...");
    }
}
