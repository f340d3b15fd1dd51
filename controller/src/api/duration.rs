use std::time::Duration;

/// Reads a duration as Go and Istio write it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.starts_with('-') {
        return Err("it is negative");
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("a number has no unit")?;
        let (number, unit_and_rest) = rest.split_at(digits);
        let end = unit_and_rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit_and_rest.len());
        let (unit, after) = unit_and_rest.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err("its unit is none of ns, us, ms, s, m and h"),
        };
        let number: f64 = number.parse().map_err(|_| "a number before a unit is none")?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| "it is too long")?;
        sum = sum.checked_add(part).ok_or("it is too long")?;
        rest = after;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in [
            ("60s", 60_000),
            ("1m30s", 90_000),
            ("100ms", 100),
            ("0.5s", 500),
            ("1.5h", 5_400_000),
            ("0s", 0),
            ("1000us", 1),
            ("1h2m3s", 3_723_000),
            ("1000000ns", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "5", "s", "1 s", "1d", "-1s", "1s5", "1..5s", "0", "two seconds", "99999999999999999999h"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
