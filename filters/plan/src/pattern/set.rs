use core::ops::BitOr;

use regex_syntax::ast::{
    ClassAscii, ClassAsciiKind, ClassBracketed, ClassPerl, ClassPerlKind, ClassSet,
    ClassSetBinaryOpKind as Operation, ClassSetItem, Literal,
};

/// Why a class is refused.
pub(super) const ASCII_ONLY: &str = "character classes may name ASCII characters only";

/// A set of bytes: those of ASCII, and the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Set {
    low: u128,
    high: u128,
}

/// The bits of `A` to `Z`; those of `a` to `z` are 32 further.
const UPPER: u128 = 0x7ff_fffe << 64;

impl Set {
    /// All bytes.
    pub(super) const ALL: Self = Self { low: u128::MAX, high: u128::MAX };
    /// What a character goes on with, unless it is ASCII.
    pub(super) const CONTINUATION: Self = Self { low: 0, high: u128::MAX >> 64 };

    pub(super) fn of(byte: u8) -> Self {
        let bit = 1_u128.wrapping_shl(byte.into());
        if byte.is_ascii() { Self { low: bit, high: 0 } } else { Self { low: 0, high: bit } }
    }

    fn of_range(start: u8, end: u8) -> Self {
        (start..=end).map(Self::of).fold(Self::default(), Self::bitor)
    }

    fn of_ascii(is_member: impl Fn(u8) -> bool) -> Self {
        (0..0x80).filter(|byte| is_member(*byte)).map(Self::of).fold(Self::default(), Self::bitor)
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) fn has(self, byte: u8) -> bool {
        !self.and(Self::of(byte)).is_empty()
    }

    /// Whether it has bytes that are not ASCII, which means all of them in what has been read out of a class.
    pub(super) fn is_beyond_ascii(self) -> bool {
        self.high != 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { low: self.low & other.low, high: self.high & other.high }
    }

    pub(super) fn without(self, other: Self) -> Self {
        self.and(other.negated_if(true))
    }

    fn negated_if(self, is_negated: bool) -> Self {
        if is_negated { Self { low: !self.low, high: !self.high } } else { self }
    }

    /// With the letters of the other case.
    pub(super) fn folded_if(self, folds: bool) -> Self {
        let other = (self.low & UPPER) << 32 | (self.low >> 32) & UPPER;
        if folds { Self { low: self.low | other, ..self } } else { self }
    }

    /// `.`, which leaves out the ends of lines unless it has all.
    pub(super) fn dot(has_all: bool, is_crlf: bool) -> Self {
        match (has_all, is_crlf) {
            (true, _) => Self::ALL,
            (false, true) => Self::ALL.without(Self::of(b'\r') | Self::of(b'\n')),
            (false, false) => Self::ALL.without(Self::of(b'\n')),
        }
    }

    /// `\d`, `\s` and `\w`.
    pub(super) fn perl(class: &ClassPerl) -> Self {
        let kind = match class.kind {
            ClassPerlKind::Digit => &ClassAsciiKind::Digit,
            ClassPerlKind::Space => &ClassAsciiKind::Space,
            ClassPerlKind::Word => &ClassAsciiKind::Word,
        };
        Self::posix(kind).negated_if(class.negated)
    }

    /// `[...]`, which has all characters that are not ASCII or none.
    pub(super) fn class(class: &ClassBracketed, folds: bool) -> Result<Self, &'static str> {
        let set = Self::bracketed(class, folds)?;
        if set.high == 0 || set.high == u128::MAX { Ok(set) } else { Err(ASCII_ONLY) }
    }

    fn bracketed(class: &ClassBracketed, folds: bool) -> Result<Self, &'static str> {
        Ok(Self::combined(&class.kind, folds)?.folded_if(folds).negated_if(class.negated))
    }

    fn combined(set: &ClassSet, folds: bool) -> Result<Self, &'static str> {
        match set {
            ClassSet::Item(item) => Self::item(item, folds),
            ClassSet::BinaryOp(operation) => {
                let left = Self::combined(&operation.lhs, folds)?.folded_if(folds);
                let right = Self::combined(&operation.rhs, folds)?.folded_if(folds);
                Ok(match operation.kind {
                    Operation::Intersection => left.and(right),
                    Operation::Difference => left.without(right),
                    Operation::SymmetricDifference => left.without(right) | right.without(left),
                })
            }
        }
    }

    fn item(item: &ClassSetItem, folds: bool) -> Result<Self, &'static str> {
        match item {
            ClassSetItem::Empty(_) => Ok(Self::default()),
            ClassSetItem::Literal(literal) => byte(literal).map(Self::of),
            ClassSetItem::Range(range) => Ok(Self::of_range(byte(&range.start)?, byte(&range.end)?)),
            ClassSetItem::Ascii(ClassAscii { kind, negated, .. }) => {
                Ok(Self::posix(kind).folded_if(folds).negated_if(*negated))
            }
            ClassSetItem::Unicode(_) => Err(ASCII_ONLY),
            ClassSetItem::Perl(class) => Ok(Self::perl(class)),
            ClassSetItem::Bracketed(class) => Self::bracketed(class, folds),
            ClassSetItem::Union(union) => {
                union.items.iter().try_fold(Self::default(), |set, item| Ok(set | Self::item(item, folds)?))
            }
        }
    }

    fn posix(kind: &ClassAsciiKind) -> Self {
        Self::of_ascii(|byte| match kind {
            ClassAsciiKind::Alnum => byte.is_ascii_alphanumeric(),
            ClassAsciiKind::Alpha => byte.is_ascii_alphabetic(),
            ClassAsciiKind::Ascii => true,
            ClassAsciiKind::Blank => matches!(byte, b'\t' | b' '),
            ClassAsciiKind::Cntrl => byte.is_ascii_control(),
            ClassAsciiKind::Digit => byte.is_ascii_digit(),
            ClassAsciiKind::Graph => byte.is_ascii_graphic(),
            ClassAsciiKind::Lower => byte.is_ascii_lowercase(),
            ClassAsciiKind::Print => byte == b' ' || byte.is_ascii_graphic(),
            ClassAsciiKind::Punct => byte.is_ascii_punctuation(),
            ClassAsciiKind::Space => matches!(byte, b'\t'..=b'\r' | b' '),
            ClassAsciiKind::Upper => byte.is_ascii_uppercase(),
            ClassAsciiKind::Word => is_word(byte),
            ClassAsciiKind::Xdigit => byte.is_ascii_hexdigit(),
        })
    }
}

impl BitOr for Set {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { low: self.low | other.low, high: self.high | other.high }
    }
}

/// Whether `\w` has it.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// One end of a range: `\xff` is a byte, and so the end of all that is not ASCII.
fn byte(literal: &Literal) -> Result<u8, &'static str> {
    let ascii = u8::try_from(literal.c).ok().filter(u8::is_ascii);
    literal.byte().or(ascii).ok_or(ASCII_ONLY)
}
