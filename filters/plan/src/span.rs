use core::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A length of time as plans write it: `250ms`, `1.5s`, `2m`, `1h`. Whole milliseconds, at most 1000 hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// The form, as errors state it.
const FORM: &str = "a duration such as \"250ms\", \"1.5s\", \"2m\" or \"1h\"";

/// What a longer duration would not survive: the timers count milliseconds in 32 bits.
const LONGEST_MILLIS: u64 = 1000 * 60 * 60 * 1000;

impl Span {
    /// The longest there is.
    pub const LONGEST: Self = Self::from_millis(LONGEST_MILLIS);

    /// A span of so many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The duration.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// The duration where zero means that there is no limit.
    pub fn limit(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }

    /// Reads a duration.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not {FORM}");
        let unit = text.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(form)?;
        let (number, unit) = text.split_at(unit);
        let scale: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            _ => return Err(form()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(form());
        }
        let too_long = || format!("{text:?} is too long; the longest duration is \"1000h\"");
        let whole: u64 = whole.parse().map_err(|_| too_long())?;
        let whole =
            whole.checked_mul(scale).filter(|millis| *millis <= LONGEST_MILLIS).ok_or_else(too_long)?;

        // As a fraction of integers, so that no rounding of a binary one shows.
        let too_fine =
            || format!("{text:?} is finer than a millisecond; the timers count whole milliseconds");
        let (mut numerator, mut denominator) = (0_u64, 1_u64);
        for digit in fraction.trim_end_matches('0').bytes() {
            let digit = u64::from(digit.wrapping_sub(b'0'));
            numerator = numerator.checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or_else(too_fine)?;
            denominator = denominator.checked_mul(10).ok_or_else(too_fine)?;
        }
        let millis = numerator.checked_mul(scale).ok_or_else(too_fine)?;
        if millis.checked_rem(denominator) != Some(0) {
            return Err(too_fine());
        }
        let millis =
            millis.checked_div(denominator).and_then(|part| part.checked_add(whole)).ok_or_else(too_long)?;
        if millis > LONGEST_MILLIS {
            return Err(too_long());
        }
        Ok(Self::from_millis(millis))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = |scale| millis.checked_rem(scale) == Some(0);
        let units: [(u64, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match units.into_iter().find(|(scale, _)| millis != 0 && whole(*scale)) {
            Some((scale, unit)) => write!(f, "{}{unit}", millis.checked_div(scale).unwrap_or_default()),
            None if millis == 0 => f.write_str("0s"),
            None => write!(f, "{millis}ms"),
        }
    }
}

impl From<Duration> for Span {
    /// Its whole milliseconds.
    fn from(duration: Duration) -> Self {
        Self::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORM)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
        }

        from.deserialize_str(Visitor)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::{Serialize, Serializer};

    use super::Span;

    impl Serialize for Span {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_str(self)
        }
    }

    impl JsonSchema for Span {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Duration".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0s", 0),
            ("0ms", 0),
            ("250ms", 250),
            ("1s", 1000),
            ("1.5s", 1500),
            ("0.001s", 1),
            ("1.000s", 1000),
            ("2m", 120_000),
            ("0.25m", 15_000),
            ("1h", 3_600_000),
            ("1000h", 3_600_000_000),
        ] {
            assert_eq!(Span::parse(text), Ok(Span::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn bad_durations_say_what_to_write() {
        let form = "is not a duration such as \"250ms\", \"1.5s\", \"2m\" or \"1h\"";
        let fine = "is finer than a millisecond; the timers count whole milliseconds";
        let long = "is too long; the longest duration is \"1000h\"";
        for (text, message) in [
            ("", form),
            ("s", form),
            ("5", form),
            ("5 s", form),
            ("-5s", form),
            ("+5s", form),
            (".5s", form),
            ("5.s", form),
            ("1.2.3s", form),
            ("5d", form),
            ("5S", form),
            ("5s ", form),
            ("1h30m", form),
            ("٣s", form),
            ("0.5ms", fine),
            ("0.0001s", fine),
            ("0.00000000000000000000000000001h", fine),
            ("1001h", long),
            ("1000.5h", long),
            ("99999999999999999999s", long),
            ("18446744073709551615h", long),
        ] {
            assert_eq!(Span::parse(text), Err(format!("{text:?} {message}")), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "250ms", "1500ms", "2s", "90s", "2m", "36h"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
    }
}
