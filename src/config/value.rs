//! How single values are written: sizes (`25MiB`), durations (`5m`), counts, ports. Each refuses what is out of bounds where
//! it is read, so that the error names line and column.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest duration: a year. Longer is a mistyped unit.
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Largest size: an exbibyte is a mistyped unit.
const SIZE_MAX: u64 = 1 << 50;
/// Largest count: memory is planned with these.
const COUNT_MAX: u64 = 100_000_000;

/// Octets, at least one: `4096`, `64KiB`, `25MiB`, `1GB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

/// A duration, perhaps zero: `300ms`, `5m`, `1h30m`, `5d`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) Duration);

/// A duration that may not be zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(pub(crate) Duration);

/// A count of at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) usize);

/// A TCP port to connect to: not 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port(pub(crate) u16);

/// Splits `25MiB` into 25 and `MiB`, and `1h30m` into its first pair and the rest.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(letters)?;
    Some((number.parse().ok()?, unit.trim(), rest))
}

/// Reads a size; units are binary (`KiB`, `MiB`, `GiB`) or decimal (`kB`, `MB`, `GB`).
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit, rest) = number_and_unit(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|octets| rest.is_empty() && (1..=SIZE_MAX).contains(octets))
}

/// Reads a duration; the unit is a must, because a bare 5 is read as seconds by one and minutes by the next.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let (number, unit, tail) = number_and_unit(rest)?;
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = tail;
        if rest.is_empty() {
            return Some(total).filter(|total| *total <= DURATION_MAX);
        }
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a size such as \"25MiB\" (units B, kB, MB, GB, KiB, MiB, GiB; at least 1, at most 1024 TiB)",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        size(text).map(Size).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Size, E> {
        let octets = u64::try_from(number).ok().filter(|octets| (1..=SIZE_MAX).contains(octets));
        octets.map(Size).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SizeVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"5m\" (units ms, s, m, h, d; at most 366d)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        duration(text).map(Span).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SpanVisitor)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Span(duration) = Span::deserialize(from)?;
        if duration.is_zero() {
            return Err(D::Error::custom("this duration cannot be zero"));
        }
        Ok(Self(duration))
    }
}

struct NumberVisitor {
    max: u64,
}

impl Visitor<'_> for NumberVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {}", self.max)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        let sound = u64::try_from(number).ok().filter(|number| (1..=self.max).contains(number));
        sound.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = from.deserialize_any(NumberVisitor { max: COUNT_MAX })?;
        usize::try_from(number).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = from.deserialize_any(NumberVisitor { max: u64::from(u16::MAX) })?;
        u16::try_from(number).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases: &[(&str, Option<u64>, &str)] = &[
            ("25MiB", Some(25 << 20), "the contract's example"),
            ("4096", Some(4096), "octets need no unit"),
            ("25 MiB", Some(25 << 20), "a space is no harm"),
            ("1GB", Some(1_000_000_000), "decimal units mean decimal"),
            ("0", None, "nothing could be sent"),
            ("25M", None, "25 MB or 25 MiB? say which"),
            ("-1", None, "negative"),
            ("99999999999999999999GiB", None, "overflow is refused, not wrapped"),
            ("", None, "empty"),
            ("1MiB1MiB", None, "one number only"),
        ];
        for (text, octets, why) in cases {
            assert_eq!(size(text), *octets, "{text}: {why}");
        }
    }

    #[test]
    fn durations() {
        let cases: &[(&str, Option<u64>, &str)] = &[
            ("5m", Some(300_000), "the contract's example"),
            ("300ms", Some(300), "the ClientHello wait"),
            ("1h30m", Some(5_400_000), "pairs add up"),
            ("5d", Some(432_000_000), "the queue's life"),
            ("0s", Some(0), "zero turns a feature off"),
            ("5", None, "no unit: seconds or minutes?"),
            ("5 weeks", None, "unknown unit"),
            ("400d", None, "over the bound"),
            ("18446744073709551615d", None, "overflow is refused, not wrapped"),
            ("", None, "empty"),
        ];
        for (text, milliseconds, why) in cases {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}: {why}");
        }
    }
}
