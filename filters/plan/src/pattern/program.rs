use regex_syntax::ast::{
    Assertion, AssertionKind, Ast, Flag, Flags as FlagSet, GroupKind, Literal, Repetition, RepetitionKind,
    RepetitionRange,
};

use super::set::{ASCII_ONLY, Set};
use super::{LARGEST, TOO_LARGE};

/// One step of a [`Program`]; the next one follows it, if nothing else is said.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Takes a byte of the set.
    Take(Set),
    /// Goes on with the next step, and with that one too.
    Fork(usize),
    Jump(usize),
    /// Goes on if that holds here.
    Look(Look),
    /// Matches, at the end of the value.
    End,
}

/// What must hold between two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Start,
    End,
    StartLine { is_crlf: bool },
    EndLine { is_crlf: bool },
    Boundary,
    NoBoundary,
    WordStart,
    WordEnd,
    WordStartHalf,
    WordEndHalf,
}

/// What a regular expression asks for, in steps that a machine with many places at a time could take.
#[derive(Debug, Default)]
pub(super) struct Program {
    steps: Vec<Step>,
    flags: Flags,
    /// Parts of the expression, each as often as it is repeated: some take no step, but all take time.
    parts: usize,
}

const MOST_STEPS: usize = LARGEST / size_of::<Step>();

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    folds: bool,
    is_multi_line: bool,
    dot_has_all: bool,
    is_crlf: bool,
}

impl Flags {
    fn with(mut self, set: &FlagSet) -> Result<Self, &'static str> {
        if set.flag_state(Flag::Unicode) == Some(true) {
            return Err(ASCII_ONLY);
        }
        let take = |flag, value: &mut bool| *value = set.flag_state(flag).unwrap_or(*value);
        take(Flag::CaseInsensitive, &mut self.folds);
        take(Flag::MultiLine, &mut self.is_multi_line);
        take(Flag::DotMatchesNewLine, &mut self.dot_has_all);
        take(Flag::CRLF, &mut self.is_crlf);
        Ok(self)
    }
}

impl Program {
    pub(super) fn new(syntax: &Ast) -> Result<Self, &'static str> {
        let mut program = Self::default();
        program.add(syntax)?;
        program.push(Step::End)?;
        Ok(program)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn push(&mut self, step: Step) -> Result<usize, &'static str> {
        let at = self.steps.len();
        if at >= MOST_STEPS {
            return Err(TOO_LARGE);
        }
        self.steps.push(step);
        Ok(at)
    }

    /// Has the step go to what is added next.
    fn lead_here(&mut self, at: usize) {
        let here = self.steps.len();
        if let Some(Step::Fork(to) | Step::Jump(to)) = self.steps.get_mut(at) {
            *to = here;
        }
    }

    fn add(&mut self, syntax: &Ast) -> Result<(), &'static str> {
        self.parts = self.parts.saturating_add(1);
        if self.parts > MOST_STEPS {
            return Err(TOO_LARGE);
        }
        match syntax {
            Ast::Empty(_) => Ok(()),
            // Until the end of the group, further alternatives included.
            Ast::Flags(set) => {
                self.flags = self.flags.with(&set.flags)?;
                Ok(())
            }
            Ast::Literal(literal) => self.add_literal(literal),
            Ast::Assertion(assertion) => self.push(Step::Look(self.look(assertion))).map(|_| ()),
            Ast::Dot(_) | Ast::ClassUnicode(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => {
                match self.set(syntax)? {
                    Some(set) => self.add_character(set),
                    None => Ok(()),
                }
            }
            Ast::Repetition(repetition) => self.add_repetition(repetition),
            Ast::Group(group) => {
                let outside = self.flags;
                if let GroupKind::NonCapturing(set) = &group.kind {
                    self.flags = self.flags.with(set)?;
                }
                self.add(&group.ast)?;
                self.flags = outside;
                Ok(())
            }
            Ast::Alternation(alternation) => {
                let Some((last, others)) = alternation.asts.split_last() else { return Ok(()) };
                let mut ends = Vec::new();
                for other in others {
                    let fork = self.push(Step::Fork(0))?;
                    self.add(other)?;
                    ends.push(self.push(Step::Jump(0))?);
                    self.lead_here(fork);
                }
                self.add(last)?;
                ends.into_iter().for_each(|end| self.lead_here(end));
                Ok(())
            }
            Ast::Concat(concat) => concat.asts.iter().try_for_each(|part| self.add(part)),
        }
    }

    /// The set of a class.
    fn set(&self, syntax: &Ast) -> Result<Option<Set>, &'static str> {
        Ok(match syntax {
            Ast::Dot(_) => Some(Set::dot(self.flags.dot_has_all, self.flags.is_crlf)),
            Ast::ClassPerl(class) => Some(Set::perl(class)),
            Ast::ClassBracketed(class) => Some(Set::class(class, self.flags.folds)?),
            Ast::ClassUnicode(_) => return Err(ASCII_ONLY),
            _ => None,
        })
    }

    fn add_literal(&mut self, literal: &Literal) -> Result<(), &'static str> {
        if literal.byte().is_some_and(|byte| !byte.is_ascii()) {
            return Err(ASCII_ONLY);
        }
        for byte in literal.c.encode_utf8(&mut [0; 4]).bytes() {
            self.push(Step::Take(Set::of(byte).folded_if(self.flags.folds)))?;
        }
        Ok(())
    }

    /// One character of a set.
    fn add_character(&mut self, set: Set) -> Result<(), &'static str> {
        self.push(Step::Take(set.without(Set::CONTINUATION)))?;
        if set.is_beyond_ascii() {
            // Values are UTF-8: what follows an ASCII character, or a whole one, is not this.
            self.add_any_number(Set::CONTINUATION)?;
        }
        Ok(())
    }

    fn add_any_number(&mut self, set: Set) -> Result<(), &'static str> {
        let fork = self.push(Step::Fork(0))?;
        self.push(Step::Take(set))?;
        self.push(Step::Jump(fork))?;
        self.lead_here(fork);
        Ok(())
    }

    fn add_repetition(&mut self, repetition: &Repetition) -> Result<(), &'static str> {
        let part = &*repetition.ast;
        let (least, most) = match repetition.op.kind {
            RepetitionKind::ZeroOrOne => (0, Some(1)),
            RepetitionKind::ZeroOrMore => (0, None),
            RepetitionKind::OneOrMore => (1, None),
            RepetitionKind::Range(RepetitionRange::Exactly(count)) => (count, Some(count)),
            RepetitionKind::Range(RepetitionRange::AtLeast(least)) => (least, None),
            RepetitionKind::Range(RepetitionRange::Bounded(least, most)) => (least, Some(most)),
        };
        (0..least).try_for_each(|_| self.add(part))?;
        let Some(most) = most else {
            // Any number of characters is any number of bytes: nothing but this takes one in the middle of a character,
            // and no `Look` holds there.
            if let Some(set) = self.set(part)? {
                return self.add_any_number(set);
            }
            let fork = self.push(Step::Fork(0))?;
            self.add(part)?;
            self.push(Step::Jump(fork))?;
            self.lead_here(fork);
            return Ok(());
        };
        let mut forks = Vec::new();
        for _ in least..most {
            forks.push(self.push(Step::Fork(0))?);
            self.add(part)?;
        }
        forks.into_iter().for_each(|fork| self.lead_here(fork));
        Ok(())
    }

    fn look(&self, assertion: &Assertion) -> Look {
        let Flags { is_multi_line, is_crlf, .. } = self.flags;
        match assertion.kind {
            AssertionKind::StartLine if is_multi_line => Look::StartLine { is_crlf },
            AssertionKind::EndLine if is_multi_line => Look::EndLine { is_crlf },
            AssertionKind::StartLine | AssertionKind::StartText => Look::Start,
            AssertionKind::EndLine | AssertionKind::EndText => Look::End,
            AssertionKind::WordBoundary => Look::Boundary,
            AssertionKind::NotWordBoundary => Look::NoBoundary,
            AssertionKind::WordBoundaryStart | AssertionKind::WordBoundaryStartAngle => Look::WordStart,
            AssertionKind::WordBoundaryEnd | AssertionKind::WordBoundaryEndAngle => Look::WordEnd,
            AssertionKind::WordBoundaryStartHalf => Look::WordStartHalf,
            AssertionKind::WordBoundaryEndHalf => Look::WordEndHalf,
        }
    }
}
