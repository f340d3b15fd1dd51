//! How objects of known keys are read.
//!
//! What serde derives does the same, but keeps each field apart until all are there, and says for each once more what
//! becomes of the others if it cannot be read: three times the code, which every proxy of a mesh loads.
use core::{fmt, marker::PhantomData};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

/// A struct that is read from an object.
pub(super) trait Object: Sized {
    /// What the fields are called: those that have to be there first.
    const KEYS: &[&str];
    /// How many have to be there.
    const REQUIRED: usize;

    /// What there is without any field.
    fn initial() -> Self;

    /// Reads the value of a field, by the number of its key.
    fn read<'de, A: MapAccess<'de>>(&mut self, field: usize, from: &mut A) -> Result<(), A::Error>;
}

/// Has a struct read from an object that has all keys that are `required`, and may have those that are `optional`. What is
/// not there is as in the value after `from`. Keys are called as fields are, or as `as` says. The keys of a field that is
/// `flattened` are keys of the object, none of which has to be there.
macro_rules! object {
    (
        $type:ident from $initial:expr;
        $(required $($required:ident $(as $required_key:literal)?),+;)?
        $(optional $($optional:ident $(as $optional_key:literal)?),+;)?
        $(flattened $flattened:ident: $inner:ident;)?
    ) => {
        impl $crate::raw::object::Object for $type {
            const KEYS: &[&str] = $crate::raw::object::keys!(
                [
                    $($($crate::raw::object::key!($required $($required_key)?),)+)?
                    $($($crate::raw::object::key!($optional $($optional_key)?),)+)?
                ]
                $($inner)?
            );
            const REQUIRED: usize = <[&str]>::len(&[$($(stringify!($required)),+)?]);

            fn initial() -> Self {
                $initial
            }

            fn read<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                field: usize,
                from: &mut A,
            ) -> Result<(), A::Error> {
                #[allow(non_camel_case_types)]
                enum Field {
                    $($($required,)+)?
                    $($($optional,)+)?
                    $($flattened,)?
                }
                // All of them: no field is forgotten.
                let Self { $($($required,)+)? $($($optional,)+)? $($flattened)? } = self;
                match field {
                    $($(field if field == Field::$required as usize => $crate::raw::object::read($required, from),)+)?
                    $($(field if field == Field::$optional as usize => $crate::raw::object::read($optional, from),)+)?
                    $(field if field >= Field::$flattened as usize => {
                        $flattened.read(field.wrapping_sub(Field::$flattened as usize), from)
                    })?
                    _ => Ok(()),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::raw::object::from_object(from)
            }
        }
    };
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// The keys of an object, and behind them those of one that is flattened into it.
macro_rules! keys {
    ([$($key:expr,)*]) => {
        &[$($key,)*]
    };
    ([$($key:expr,)*] $inner:ident) => {{
        const OWN: &[&str] = &[$($key,)*];
        const INNER: &[&str] = <$inner as $crate::raw::object::Object>::KEYS;
        const ALL: [&str; OWN.len() + INNER.len()] = $crate::raw::object::joined(OWN, INNER);
        &ALL
    }};
}

pub(super) use {key, keys, object};

/// The one and then the other, which are `N` together.
pub(super) const fn joined<const N: usize>(
    first: &[&'static str],
    then: &[&'static str],
) -> [&'static str; N] {
    let mut all = [""; N];
    let (own, inner) = all.split_at_mut(first.len());
    own.copy_from_slice(first);
    inner.copy_from_slice(then);
    all
}

/// Reads an object.
pub(super) fn from_object<'de, T: Object, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_map(Fields(PhantomData))
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<T, A::Error> {
        let mut value = T::initial();
        let mut keys = Keys { all: T::KEYS, seen: 0 };
        while let Some(field) = keys.next(&mut from)? {
            value.read(field, &mut from)?;
        }
        keys.check(T::REQUIRED)?;
        Ok(value)
    }
}

/// Reads a value into its place.
#[inline(never)]
pub(super) fn read<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    place: &mut T,
    from: &mut A,
) -> Result<(), A::Error> {
    *place = from.next_value()?;
    Ok(())
}

/// The keys of an object that is being read.
struct Keys {
    all: &'static [&'static str],
    /// Bit by bit.
    seen: u32,
}

impl Keys {
    /// The number of the next key.
    #[inline(never)]
    fn next<'de, A: MapAccess<'de>>(&mut self, from: &mut A) -> Result<Option<usize>, A::Error> {
        let Some(number) = from.next_key_seed(Key(self.all))? else { return Ok(None) };
        if self.has(number) {
            return Err(A::Error::duplicate_field(self.all.get(number).unwrap_or(&"")));
        }
        self.seen |= bit(number);
        Ok(Some(number))
    }

    fn has(&self, number: usize) -> bool {
        self.seen & bit(number) != 0
    }

    /// Whether the first `required` keys were there.
    #[inline(never)]
    fn check<E: Error>(&self, required: usize) -> Result<(), E> {
        match self.all.iter().zip(0..required).find(|(_, number)| !self.has(*number)) {
            Some((key, _)) => Err(E::missing_field(key)),
            None => Ok(()),
        }
    }
}

/// No object has more keys than there are bits.
fn bit(number: usize) -> u32 {
    1_u32.wrapping_shl(number as u32)
}

/// Finds the number of a key.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<usize, E> {
        self.0.iter().position(|known| *known == key).ok_or_else(|| E::unknown_field(key, self.0))
    }
}
