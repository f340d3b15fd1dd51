//! From the matches of the document to rules.
use meltemi_codecs::{Codec, Operation};

use super::{
    address::Block,
    error::{Path, Result, fail},
    matcher::{Predicate, Rule, Test},
    pattern::Patterns,
    raw, source,
    table::Table,
};

/// Appends the rules of a route, one for each alternative.
pub(super) fn matches(
    path: &Path<'_>,
    raw: Option<&[raw::Match]>,
    route: usize,
    patterns: &Patterns,
    rules: &mut Vec<Rule>,
) -> Result<()> {
    let Some(raw) = raw else {
        rules.push(Rule { route, predicates: Box::default() });
        return Ok(());
    };
    if raw.is_empty() {
        return fail(path, "an empty list matches no call; leave \"match\" out to match every call");
    }
    for (number, raw) in raw.iter().enumerate() {
        let path = &path.index(number);
        if raw.attributes.is_empty() {
            let message = "names no attribute; leave \"match\" out to match every call";
            return fail(&path.key("attributes"), message);
        }
        let mut all = Vec::with_capacity(raw.attributes.len().saturating_add(raw.not_attributes.len()));
        predicates(path, "attributes", &raw.attributes, false, patterns, &mut all)?;
        predicates(path, "notAttributes", &raw.not_attributes, true, patterns, &mut all)?;
        rules.push(Rule { route, predicates: all.into() });
    }
    Ok(())
}

/// Appends what `raw`, the field of a match, says of attributes: that they match, or that they do not.
fn predicates(
    path: &Path<'_>,
    field: &str,
    raw: &Table<raw::Matcher>,
    unwanted: bool,
    patterns: &Patterns,
    all: &mut Vec<Predicate>,
) -> Result<()> {
    let path = &path.key(field);
    for (attribute, raw) in raw.iter() {
        let path = &path.key(attribute);
        attribute_name(path, attribute)?;
        let invert = raw.invert != unwanted;
        all.push(Predicate {
            attribute: attribute.into(),
            test: test(path, attribute, raw, patterns)?,
            invert,
        });
    }
    Ok(())
}

/// Checks the name of an attribute that calls may have.
pub(super) fn attribute_name(path: &Path<'_>, attribute: &str) -> Result<()> {
    if attribute.is_empty() {
        return fail(path, "the name of an attribute is empty; name one");
    }
    if attribute.starts_with(source::PREFIX) && !source::ATTRIBUTES.contains(&attribute) {
        return source::unknown(path);
    }
    Ok(())
}

fn test(path: &Path<'_>, attribute: &str, raw: &raw::Matcher, patterns: &Patterns) -> Result<Test> {
    let part = |key: &str, text: &str| match text {
        "" => fail(&path.key(key), "every value has it; write \"present\": true"),
        text => Ok(Box::from(text)),
    };
    let raw::Matcher { exact, prefix, suffix, contains, regex, range, cidr, present, invert: _ } = raw;
    let parts = [exact, prefix, suffix, contains, regex].map(Option::is_some);
    let is_there = parts.into_iter().chain([range.is_some(), !cidr.is_empty(), present.is_some()]);
    let kinds = "exact, prefix, suffix, contains, regex, range, cidr, present";
    match is_there.filter(|is_there| *is_there).count() {
        0 => return fail(path, format!("no matcher; write one of {kinds}")),
        1 => {}
        _ => return fail(path, format!("more than one matcher; keep one of {kinds}")),
    }
    match raw {
        raw::Matcher { exact: Some(text), .. } => Ok(Test::Exact(Box::from(&**text))),
        raw::Matcher { prefix: Some(text), .. } => part("prefix", text).map(Test::Prefix),
        raw::Matcher { suffix: Some(text), .. } => part("suffix", text).map(Test::Suffix),
        raw::Matcher { contains: Some(text), .. } => part("contains", text).map(Test::Contains),
        raw::Matcher { regex: Some(source), .. } => match patterns.get(source) {
            Ok(pattern) => Ok(Test::Regex(pattern)),
            Err(error) => fail(&path.key("regex"), error),
        },
        raw::Matcher { range: Some(raw::Range { start, end }), .. } if start < end => {
            Ok(Test::Range { start: *start, end: *end })
        }
        raw::Matcher { range: Some(raw::Range { start, end }), .. } => fail(
            &path.key("range"),
            format!("{start} to {end} is empty; \"end\" is the first integer after it"),
        ),
        raw::Matcher { present: Some(present), .. } => Ok(Test::Present(*present)),
        raw::Matcher { cidr, .. } => addresses(&path.key("cidr"), attribute, cidr),
    }
}

pub(super) fn no_block(text: &str) -> String {
    format!("{text:?} is no block of addresses; write one such as \"10.0.0.0/8\" or \"fd00::/8\"")
}

fn addresses(path: &Path<'_>, attribute: &str, blocks: &[String]) -> Result<Test> {
    if attribute != source::IP {
        return fail(path, format!("only {} is an address; write it there", source::IP));
    }
    let block = |(number, text): (usize, &String)| match Block::new(text) {
        Some(block) => Ok(block),
        None => fail(&path.index(number), no_block(text)),
    };
    Ok(Test::Address(blocks.iter().enumerate().map(block).collect::<Result<_>>()?))
}

/// Whether only one operation meets a rule.
pub(super) fn names_operation(rule: &Rule, codec: &dyn Codec) -> bool {
    let Operation { service, method } = codec.operation();
    [service, method].iter().all(|name| {
        rule.predicates.iter().any(|predicate| {
            *predicate.attribute == **name && !predicate.invert && matches!(predicate.test, Test::Exact(_))
        })
    })
}

/// The attributes that rules test.
pub(super) fn attributes(rules: &[Rule]) -> impl Iterator<Item = &str> {
    rules.iter().flat_map(|rule| &rule.predicates).map(|predicate| &*predicate.attribute)
}
