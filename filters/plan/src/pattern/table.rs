use std::collections::BinaryHeap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::program::{Look, Program, Step};
use super::set::{Set, is_word};
use super::{LARGEST, TOO_LARGE};

/// A place in a [`Table`]; the default one has no way to a match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State(u32);

/// A deterministic automaton: where each byte leads from each state.
#[derive(Debug)]
pub(super) struct Table {
    /// Bytes that nothing tells from each other are of one class.
    classes: Box<[u8; 256]>,
    /// A row of each state: where each class leads, and whether a value that ends here matches.
    rows: Box<[State]>,
    start: State,
    classes_in_row: u32,
}

impl Table {
    pub(super) fn new(program: &Program) -> Result<Self, &'static str> {
        Builder::new(program).build()
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.classes).saturating_add(size_of_val(&*self.rows))
    }

    #[inline]
    pub(super) fn start(&self) -> State {
        self.start
    }

    #[inline]
    pub(super) fn next(&self, state: State, byte: u8) -> State {
        let class = self.classes.get(usize::from(byte)).copied().unwrap_or_default();
        self.cell(state, class.into())
    }

    #[inline]
    pub(super) fn is_match(&self, state: State) -> bool {
        self.cell(state, self.classes_in_row) != State::default()
    }

    #[inline]
    fn cell(&self, state: State, column: u32) -> State {
        self.rows.get(state.0.wrapping_add(column) as usize).copied().unwrap_or_default()
    }
}

/// What is on one side of a place between bytes, as far as a [`Look`] can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Other,
    /// No character: the value starts or ends.
    Edge,
    Word,
    Lf,
    Cr,
    /// The character goes on.
    Within,
}

impl Side {
    const ALL: [Self; 6] = [Self::Other, Self::Edge, Self::Word, Self::Lf, Self::Cr, Self::Within];

    fn of(byte: u8) -> Self {
        match byte {
            b'\n' => Self::Lf,
            b'\r' => Self::Cr,
            0x80..=0xbf => Self::Within,
            _ if is_word(byte) => Self::Word,
            _ => Self::Other,
        }
    }
}

impl Look {
    fn holds(self, before: Side, after: Side) -> bool {
        let (word_before, word_after) = (before == Side::Word, after == Side::Word);
        let holds = match self {
            Self::Start => before == Side::Edge,
            Self::End => after == Side::Edge,
            Self::StartLine { is_crlf: false } => matches!(before, Side::Edge | Side::Lf),
            Self::EndLine { is_crlf: false } => matches!(after, Side::Edge | Side::Lf),
            // Never between the two of a pair.
            Self::StartLine { is_crlf: true } => {
                matches!(before, Side::Edge | Side::Lf) || before == Side::Cr && after != Side::Lf
            }
            Self::EndLine { is_crlf: true } => {
                matches!(after, Side::Edge | Side::Cr) || after == Side::Lf && before != Side::Cr
            }
            Self::Boundary => word_before != word_after,
            Self::NoBoundary => word_before == word_after,
            Self::WordStart => !word_before && word_after,
            Self::WordEnd => word_before && !word_after,
            Self::WordStartHalf => !word_before,
            Self::WordEndHalf => !word_after,
        };
        holds && after != Side::Within
    }
}

/// The most steps to look at, all states together: about half a second.
const MOST_WORK: usize = 1 << 26;

struct Builder<'a> {
    steps: &'a [Step],
    has_looks: bool,
    /// The bytes of each class.
    classes: Vec<Set>,
    /// The number of the state with these steps to go on with and, as the last element, this [`Side`] before it.
    numbers: FxHashMap<Rc<[u32]>, usize>,
    states: Vec<Rc<[u32]>>,
    /// What the states take, in bytes.
    bytes: usize,
    work: usize,
    /// The steps that take a byte, and whether the value may end here, of what was looked at last.
    takes: Vec<(usize, Set)>,
    may_end: bool,
    /// By step, the number of the look that has seen it last.
    seen: Vec<usize>,
    looks: usize,
    to_see: Vec<usize>,
}

impl<'a> Builder<'a> {
    fn new(program: &'a Program) -> Self {
        let steps = program.steps();
        let has_looks = steps.iter().any(|step| matches!(step, Step::Look(_)));
        let mut classes = vec![Set::ALL];
        for step in steps {
            if let Step::Take(set) = step {
                divide(&mut classes, *set);
            }
        }
        if has_looks {
            for side in Side::ALL {
                let bytes = (0..=u8::MAX).filter(|byte| Side::of(*byte) == side).map(Set::of);
                divide(&mut classes, bytes.fold(Set::default(), |all, byte| all | byte));
            }
        }
        Self {
            steps,
            has_looks,
            classes,
            numbers: FxHashMap::default(),
            states: Vec::new(),
            bytes: 0,
            work: 0,
            takes: Vec::new(),
            may_end: false,
            seen: vec![0; steps.len()],
            looks: 0,
            to_see: Vec::new(),
        }
    }

    fn build(mut self) -> Result<Table, &'static str> {
        let width = self.classes.len().saturating_add(1);
        let class_of = |byte| self.classes.iter().position(|class| class.has(byte));
        let classes = Box::new(core::array::from_fn(|byte| {
            u8::try_from(byte).ok().and_then(class_of).and_then(|class| u8::try_from(class).ok()).unwrap_or(0)
        }));
        let samples: Vec<u8> =
            self.classes.iter().filter_map(|class| (0..=u8::MAX).find(|byte| class.has(*byte))).collect();
        let mut rows = Vec::new();
        self.number(Vec::new(), Side::Other)?;
        let start = self.number(vec![0], Side::Edge)?;
        let state =
            |number: usize| u32::try_from(number.saturating_mul(width)).map(State).map_err(|_| TOO_LARGE);
        let mut at = 0_usize;
        while let Some(from) = self.states.get(at).cloned() {
            let mut seen_for = None;
            for byte in &samples {
                let after = self.side(*byte);
                if seen_for.replace(after) != Some(after) {
                    self.look(&from, after)?;
                }
                self.work = self.work.saturating_add(self.takes.len());
                let taken = self.takes.iter().filter(|(_, set)| set.has(*byte));
                let next: BinaryHeap<_> =
                    taken.filter_map(|(step, _)| u32::try_from(step.saturating_add(1)).ok()).collect();
                // The code of a heap is a quarter of a sort's.
                let mut next = next.into_sorted_vec();
                next.dedup();
                rows.push(state(self.number(next, after)?)?);
            }
            self.look(&from, Side::Edge)?;
            rows.push(State(self.may_end.into()));
            if size_of_val(&*rows) > LARGEST || self.bytes > LARGEST || self.work > MOST_WORK {
                return Err(TOO_LARGE);
            }
            at = at.saturating_add(1);
        }
        let classes_in_row = u32::try_from(samples.len()).map_err(|_| TOO_LARGE)?;
        Ok(Table { classes, rows: rows.into(), start: state(start)?, classes_in_row })
    }

    fn side(&self, byte: u8) -> Side {
        if self.has_looks { Side::of(byte) } else { Side::Other }
    }

    /// The number of a state, which may be a new one.
    fn number(&mut self, mut steps: Vec<u32>, before: Side) -> Result<usize, &'static str> {
        let before = if steps.is_empty() { Side::Other } else { before };
        steps.push(before as u32);
        if let Some(number) = self.numbers.get(&*steps) {
            return Ok(*number);
        }
        let number = self.states.len();
        let steps: Rc<[u32]> = steps.into();
        self.bytes = self.bytes.saturating_add(size_of_val(&*steps)).saturating_add(32);
        self.states.push(steps.clone());
        self.numbers.insert(steps, number);
        Ok(number)
    }

    /// Finds what can be taken from a state without taking a byte before.
    fn look(&mut self, state: &[u32], after: Side) -> Result<(), &'static str> {
        self.looks = self.looks.saturating_add(1);
        self.takes.clear();
        self.may_end = false;
        let Some((before, steps)) = state.split_last() else { return Ok(()) };
        let before = Side::ALL.into_iter().find(|side| *side as u32 == *before).unwrap_or(Side::Other);
        self.to_see.extend(steps.iter().map(|step| *step as usize));
        while let Some(at) = self.to_see.pop() {
            let (Some(seen), Some(step)) = (self.seen.get_mut(at), self.steps.get(at)) else { continue };
            if core::mem::replace(seen, self.looks) == self.looks {
                continue;
            }
            self.work = self.work.saturating_add(1);
            let next = at.saturating_add(1);
            match *step {
                Step::Take(set) => self.takes.push((at, set)),
                Step::Fork(to) => self.to_see.extend([next, to]),
                Step::Jump(to) => self.to_see.push(to),
                Step::Look(look) if look.holds(before, after) => self.to_see.push(next),
                Step::Look(_) => {}
                Step::End => self.may_end = true,
            }
        }
        Ok(())
    }
}

/// Divides the classes so that each is of the set, or none of it.
fn divide(classes: &mut Vec<Set>, set: Set) {
    for at in 0..classes.len() {
        let Some(class) = classes.get_mut(at) else { return };
        let (inside, outside) = (class.and(set), class.without(set));
        if !inside.is_empty() && !outside.is_empty() {
            *class = inside;
            classes.push(outside);
        }
    }
}
