mod program;
mod set;
mod table;

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use regex_syntax::ast::parse::Parser;
use rustc_hash::FxHashMap;

use program::Program;
use table::{State, Table};

/// A regular expression that must match the whole value, as Envoy's `safe_regex` must.
///
/// It is a table of states: each byte of a value costs a few instructions, whatever the expression and the value.
#[derive(Debug)]
pub(super) struct Pattern {
    source: Box<str>,
    table: Table,
}

/// The largest table, in bytes, and the most memory for making one.
const LARGEST: usize = 8 * 1024 * 1024;

/// What a pattern that would take more is refused with.
const TOO_LARGE: &str = "it is too large; write it shorter";

/// The longest pattern, in bytes: reading one takes hundreds of times its room.
const LONGEST: usize = 64 * 1024;

/// The most bytes that the tables of one service's patterns take together.
pub const MOST_TABLES: usize = 32 * 1024 * 1024;

/// After so many bytes a value is given up if nothing that follows could make it match.
const STRIDE: usize = 8;

impl Pattern {
    /// Compiles a pattern, or says what is wrong with it.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("it has {} bytes, of which {LONGEST} are allowed", source.len()));
        }
        let syntax = Parser::new().parse(source).map_err(|error| error.kind().to_string())?;
        let table = Table::new(&Program::new(&syntax)?)?;
        Ok(Self { source: source.into(), table })
    }

    /// What its table takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The pattern as the plan has it.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the pattern matches all of a value.
    #[inline]
    pub(super) fn is_match(&self, value: &str) -> bool {
        let mut state = self.table.start();
        for bytes in value.as_bytes().chunks(STRIDE) {
            state = bytes.iter().fold(state, |state, byte| self.table.next(state, *byte));
            if state == State::default() {
                return false;
            }
        }
        self.table.is_match(state)
    }
}

/// The patterns of one service, each of which is compiled once.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: RefCell<FxHashMap<Box<str>, Rc<Pattern>>>,
    bytes: Cell<usize>,
}

impl Patterns {
    /// The pattern, if the tables of all take no more than [`MOST_TABLES`] with it.
    pub(super) fn get(&self, source: &str) -> Result<Rc<Pattern>, String> {
        if let Some(known) = self.known.borrow().get(source) {
            return Ok(known.clone());
        }
        let pattern = Pattern::new(source).map_err(|error| format!("not a regular expression: {error}"))?;
        let bytes = self.bytes.get().saturating_add(pattern.bytes());
        if bytes > MOST_TABLES {
            return Err(format!(
                "the tables of the service's regular expressions take more than {} MiB; write fewer, or shorter ones",
                MOST_TABLES >> 20
            ));
        }
        self.bytes.set(bytes);
        let pattern = Rc::new(pattern);
        self.known.borrow_mut().insert(source.into(), pattern.clone());
        Ok(pattern)
    }

    /// What the tables of all take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::{set::ASCII_ONLY, *};

    fn pattern() -> impl Strategy<Value = String> {
        const PARTS: &[&str] = &[
            "a",
            "b",
            "é",
            "好",
            ".",
            "\\.",
            "[ab]",
            "[^a]",
            "[^\\n]",
            "\\w",
            "\\W",
            "\\d",
            "\\S",
            "\\b",
            "\\B",
            "^",
            "$",
            "(?s:.)",
            "(?i:aB)",
            "(?m:^a$)",
            "(?-s:.)",
            "\\n",
            "[[:alpha:]]",
            "(?i:[^a-b[:upper:]])",
            "(?mR:^)",
            "(?mR:$)",
            "(?R:.)",
            "\\r",
            "\\b{start}",
            "\\b{end}",
            "\\b{start-half}",
            "\\b{end-half}",
            "a{0}",
        ];
        let leaf = select(PARTS).prop_map(str::to_owned);
        leaf.prop_recursive(4, 32, 4, |inner| {
            let repeat = select(&["*", "+", "?", "{2}", "{1,3}", "{0,}", "{2,}", "*?", "+?"][..]);
            prop_oneof![
                vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner, repeat.clone()).prop_map(|(inner, repeat)| format!("({inner}){repeat}")),
                (select(&[".", "[^a]", "(?s:.)", "\\W"][..]), repeat)
                    .prop_map(|(class, repeat)| format!("{class}{repeat}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// An engine of another kind finds the same.
        #[test]
        fn tables_match_what_another_engine_matches(
            source in pattern(),
            values in vec("[abBAé好 ._\\n\\r1\u{7f}\u{80}😀]{0,12}", 1..20),
        ) {
            let pattern = Pattern::new(&source).unwrap();
            let other = regex_lite::Regex::new(&format!(r"\A(?:{source})\z")).unwrap();
            for value in &values {
                prop_assert_eq!(pattern.is_match(value), other.is_match(value), "{} {:?}", source, value);
            }
        }
    }

    #[test]
    fn classes_name_ascii() {
        for source in ["[é]", "\\xe9", "[\\xe0-\\xff]", "\\pL", "(?u:.)", "(?iu)a", "[a&&é]"] {
            assert_eq!(Pattern::new(source).unwrap_err(), ASCII_ONLY, "{source}");
        }
        for (source, value) in [("é|è", "è"), ("[^a]", "é"), ("\\W{2}", "好é"), ("(?i)GETé", "geté")]
        {
            assert!(Pattern::new(source).unwrap().is_match(value), "{source}");
        }
    }

    #[test]
    fn a_character_is_taken_whole() {
        for (source, value) in [(".+.+", "é"), (r".+\B.*", "éa"), (".{2}", "é"), (".?.?.", "éé好好")] {
            assert!(!Pattern::new(source).unwrap().is_match(value), "{source}");
        }
        for (source, value) in [(".+.+", "éa"), (r".+\b.*", "éa"), (".*.*", "é"), (".?.?.", "éé好")] {
            assert!(Pattern::new(source).unwrap().is_match(value), "{source}");
        }
    }

    #[test]
    fn classes_are_combined() {
        for (source, all) in [
            ("[a-d&&[^b]]", "acd"),
            (r"[\d--2-8]", "019"),
            ("[a-c~~[b-d]]", "ad"),
            ("(?i)[a-c&&B-Z]", "bcBC"),
            ("(?i)[[:alpha:]&&[^a-y]]", "Zz"),
            (r"[\W&&[[:punct:]--[!-/:-`]]]", "{|}~"),
            (r"[^\x00-\x7f]", "é好"),
            (r"[\x80-\x8f\x90-\xffa]", "aé好"),
        ] {
            let Ok(pattern) = Pattern::new(source) else { panic!("{source}") };
            let matched: String =
                (' '..='~').chain(['é', '好']).filter(|one| pattern.is_match(&one.to_string())).collect();
            let (mut matched, mut all): (Vec<_>, Vec<_>) = (matched.chars().collect(), all.chars().collect());
            matched.sort_unstable();
            all.sort_unstable();
            assert_eq!(matched, all, "{source}");
        }
    }

    #[test]
    fn flags_last_until_their_group_ends() {
        for (source, value) in [("(?:(?i)a|b)c", "Bc"), ("(?i)a(?-i)b|c", "Ab"), ("((?i))a", "a")] {
            assert!(Pattern::new(source).unwrap().is_match(value), "{source}");
        }
        for (source, value) in [("(?:(?i)a|b)c", "bC"), ("(?i)a(?-i)b|c", "C"), ("((?i))a", "A")] {
            assert!(!Pattern::new(source).unwrap().is_match(value), "{source}");
        }
    }

    #[test]
    fn what_takes_too_much_memory_is_refused() {
        assert_eq!(Pattern::new("[01]*1[01]{30}").unwrap_err(), "it is too large; write it shorter");
        for source in ["((a{1000}){1000}){1000}", "(((){1000}){1000}){1000}", "(a?){30000}"] {
            assert_eq!(Pattern::new(source).unwrap_err(), "it is too large; write it shorter", "{source}");
        }
    }

    #[test]
    fn one_is_compiled_once_and_all_together_are_bounded() {
        let patterns = Patterns::default();
        let first = patterns.get("a+").unwrap();
        let bytes = patterns.bytes();
        assert!(bytes > 0 && bytes == first.bytes());
        assert!(Rc::ptr_eq(&first, &patterns.get("a+").unwrap()));
        assert_eq!(patterns.bytes(), bytes);
        // About 5 MiB each.
        let error = (0..8)
            .find_map(|at| patterns.get(&format!(".*a.{{13}}(bcdefghijklmnopqrstuvwyzABCDEFG)?x{at}")).err());
        assert!(
            error
                .unwrap()
                .starts_with("the tables of the service's regular expressions take more than 32 MiB")
        );
        assert!(patterns.bytes() <= MOST_TABLES);
        assert!(patterns.get("b+").is_ok());
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let long = "(a|b)".repeat(LONGEST);
        assert_eq!(Pattern::new(&long).unwrap_err(), "it has 327680 bytes, of which 65536 are allowed");
    }
}
