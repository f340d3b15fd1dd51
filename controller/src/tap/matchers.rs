//! Matchers as the command line has them.

use crate::api::StringMatch;

/// Reads what one attribute must be: `NAME=VALUE`, with `*` at the ends of the value for any text there, or `NAME~REGEX`; both
/// after `!` for what it must not be.
pub(super) fn condition(text: &str) -> Result<(String, StringMatch), String> {
    let at = text.find(['=', '~']).ok_or("write NAME=VALUE, NAME=PREFIX* or NAME~REGEX")?;
    let (name, rest) = text.split_at(at);
    let (operator, value) = rest.split_at(1);
    let (name, invert) = name.strip_suffix('!').map_or((name, None), |name| (name, Some(true)));
    if name.is_empty() {
        return Err("the name of the attribute is missing; write NAME=VALUE".to_owned());
    }
    let matcher = match operator {
        "~" => StringMatch { regex: Some(value.to_owned()), ..StringMatch::default() },
        _ => matcher(value)?,
    };
    Ok((name.to_owned(), StringMatch { invert, ..matcher }))
}

fn matcher(value: &str) -> Result<StringMatch, String> {
    let (rest, is_suffix) = value.strip_prefix('*').map_or((value, false), |rest| (rest, true));
    let (inner, is_prefix) = rest.strip_suffix('*').map_or((rest, false), |inner| (inner, true));
    if inner.contains('*') {
        return Err("* stands at the ends of a value alone; write NAME~REGEX".to_owned());
    }
    let text = Some(inner.to_owned());
    let none = StringMatch::default();
    match (inner, is_prefix, is_suffix) {
        ("", false, false) => {
            Err("the value is empty; write NAME=* for any value, or NAME!=* for none".to_owned())
        }
        ("", ..) => Ok(StringMatch { present: Some(true), ..none }),
        (_, false, false) => Ok(StringMatch { exact: text, ..none }),
        (_, true, false) => Ok(StringMatch { prefix: text, ..none }),
        (_, false, true) => Ok(StringMatch { suffix: text, ..none }),
        (_, true, true) => Ok(StringMatch { contains: text, ..none }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_matchers() {
        for (text, name, matcher) in [
            ("method=get", "method", json!({"exact": "get"})),
            ("method=get*", "method", json!({"prefix": "get"})),
            ("method=*All", "method", json!({"suffix": "All"})),
            ("method=*et*", "method", json!({"contains": "et"})),
            ("tenant=*", "tenant", json!({"present": true})),
            ("tenant!=*", "tenant", json!({"present": true, "invert": true})),
            ("method!=get", "method", json!({"exact": "get", "invert": true})),
            ("method~get|put", "method", json!({"regex": "get|put"})),
            ("a!~b=c", "a", json!({"regex": "b=c", "invert": true})),
            ("a=b=c~d", "a", json!({"exact": "b=c~d"})),
        ] {
            let (known, told) = condition(text).unwrap();
            assert_eq!((&*known, serde_json::to_value(told).unwrap()), (name, matcher), "{text}");
        }
        for wrong in
            ["", "method", "=get", "!=get", "~a", "method=", "method!=", "method=g*t", "method=**", "a=***"]
        {
            let told = condition(wrong);
            assert!(wrong.ends_with("**") || told.is_err(), "{wrong}: {told:?}");
        }
        assert!(condition("a=***").is_err());
    }
}
