use core::cell::{Cell, RefCell};
use std::rc::Rc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::{primitives::StateID, start};
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ast::{self, Ast, Flag};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition,
};
use rustc_hash::FxHashMap;

/// A regular expression that must match the whole value, as Envoy's `safe_regex` must.
///
/// It is a table of states: each byte of a value costs a few instructions, whatever the expression and the value.
#[derive(Debug)]
pub(super) struct Pattern {
    source: Box<str>,
    states: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// The largest table, in bytes, and the most memory for making one.
const LARGEST: usize = 8 * 1024 * 1024;

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
        let syntax = ast::parse::Parser::new().parse(source).map_err(|error| error.kind().to_string())?;
        ast::visit(&syntax, AsciiOnly)?;
        // Classes of ASCII, as in RE2; what Unicode calls letters and digits would take large tables.
        let mut translator = TranslatorBuilder::new().unicode(false).utf8(false).build();
        let pattern = whole_characters(translator.translate(source, &syntax).map_err(|_| ASCII_ONLY)?)?;
        let limited = thompson::Config::new()
            .utf8(false)
            .which_captures(thompson::WhichCaptures::None)
            .nfa_size_limit(Some(LARGEST));
        let too_large = "it is too large; write it shorter";
        let nfa = thompson::Compiler::new().configure(limited).build_from_hir(&pattern);
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(LARGEST))
            .determinize_size_limit(Some(LARGEST));
        let states = dense::Builder::new().configure(config).build_from_nfa(&nfa.map_err(|_| too_large)?);
        let states = states.map_err(|_| too_large)?;
        let start =
            states.start_state(&start::Config::new().anchored(Anchored::Yes)).map_err(|_| too_large)?;
        Ok(Self { source: source.into(), states, start })
    }

    /// What its table takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.states.memory_usage()
    }

    /// The pattern as the plan has it.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the pattern matches all of a value.
    #[inline]
    pub(super) fn is_match(&self, value: &str) -> bool {
        let mut state = self.start;
        for bytes in value.as_bytes().chunks(STRIDE) {
            state = bytes.iter().fold(state, |state, byte| self.states.next_state(state, *byte));
            if self.states.is_dead_state(state) {
                return false;
            }
        }
        self.states.is_match_state(self.states.next_eoi_state(state))
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

const ASCII_ONLY: &str = "character classes may name ASCII characters only";

/// Finds flags that ask for what Unicode calls letters and digits.
struct AsciiOnly;

impl ast::Visitor for AsciiOnly {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), &'static str> {
        Ok(())
    }

    fn visit_pre(&mut self, syntax: &Ast) -> Result<(), &'static str> {
        let flags = match syntax {
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        match flags.and_then(|flags| flags.flag_state(Flag::Unicode)) {
            Some(true) => Err(ASCII_ONLY),
            _ => Ok(()),
        }
    }
}

/// The pattern with whole characters in place of bytes that are not ASCII: classes have all of these bytes, such as `.`
/// has, or none.
fn whole_characters(pattern: Hir) -> Result<Hir, &'static str> {
    let all = |subs: Vec<Hir>| subs.into_iter().map(whole_characters).collect::<Result<Vec<_>, _>>();
    Ok(match pattern.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) if str::from_utf8(&literal.0).is_ok() => Hir::literal(literal.0),
        HirKind::Class(Class::Bytes(class)) => Hir::class(whole_class(&class)?),
        // Alternatives of one character each.
        HirKind::Class(class) => Hir::class(class),
        HirKind::Literal(_) => return Err(ASCII_ONLY),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
            let whole = whole_characters((*sub).clone())?;
            // Values are UTF-8: what begins in the middle of a character matches nothing that follows.
            let sub = if min <= 1 && max.is_none() && matches!(sub.kind(), HirKind::Class(_)) {
                sub
            } else {
                Box::new(whole)
            };
            Hir::repetition(Repetition { min, max, greedy, sub })
        }
        HirKind::Capture(Capture { index, name, sub }) => {
            Hir::capture(Capture { index, name, sub: Box::new(whole_characters(*sub)?) })
        }
        HirKind::Concat(subs) => Hir::concat(all(subs)?),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)?),
    })
}

fn whole_class(class: &ClassBytes) -> Result<Class, &'static str> {
    let ascii = |byte: u8| char::from(byte.min(0x7f));
    let mut whole = ClassUnicode::empty();
    for range in class.iter() {
        if range.start() <= 0x7f {
            whole.push(ClassUnicodeRange::new(ascii(range.start()), ascii(range.end())));
        }
        match (range.start(), range.end()) {
            (_, ..=0x7f) => {}
            (..=0x80, 0xff) => whole.push(ClassUnicodeRange::new('\u{80}', char::MAX)),
            _ => return Err(ASCII_ONLY),
        }
    }
    Ok(Class::Unicode(whole))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

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
        ];
        let leaf = select(PARTS).prop_map(str::to_owned);
        leaf.prop_recursive(4, 32, 4, |inner| {
            let repeat = select(&["*", "+", "?", "{2}", "{1,3}", "{0,}", "{2,}", "*?", "+?"][..]);
            prop_oneof![
                vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner, repeat).prop_map(|(inner, repeat)| format!("({inner}){repeat}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// An engine of another kind finds the same.
        #[test]
        fn tables_match_what_another_engine_matches(
            source in pattern(),
            values in vec("[abBAé好 ._\\n1\u{7f}\u{80}😀]{0,12}", 1..20),
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
    fn what_takes_too_much_memory_is_refused() {
        assert_eq!(Pattern::new("[01]*1[01]{30}").unwrap_err(), "it is too large; write it shorter");
        assert_eq!(Pattern::new("((a{1000}){1000}){1000}").unwrap_err(), "it is too large; write it shorter");
    }

    #[test]
    fn one_is_compiled_once_and_all_together_are_bounded() {
        let patterns = Patterns::default();
        let first = patterns.get("a+").unwrap();
        let bytes = patterns.bytes();
        assert!(bytes > 0 && bytes == first.bytes());
        assert!(Rc::ptr_eq(&first, &patterns.get("a+").unwrap()));
        assert_eq!(patterns.bytes(), bytes);
        // About 7 MiB each.
        let error = (0..8).find_map(|at| patterns.get(&format!(".*a.{{12}}x{at}")).err());
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
