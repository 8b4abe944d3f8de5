//! Quantities as Kubernetes writes them: `1`, `500m`, `0.5`, `1Gi`, `1e3` (resource.Quantity).

use std::str::FromStr;

use serde_json::Value;

/// Decimal digits after the point that a quantity keeps: Kubernetes' own resolution.
const PLACES: i32 = 9;

/// An amount, exact to a billionth. Two spellings of one amount are equal: `1000m` and `1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// What is wrong with the text of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No digits, or something other than digits, one point and one suffix.
    #[error("failed to read a quantity: not a number with a unit")]
    Syntax,
    /// More than 128 bits of billionths hold.
    #[error("failed to read a quantity: too large")]
    TooLarge,
}

impl Quantity {
    /// The quantity that a manifest's value spells: a string, or a number that the API server accepts
    /// in its place. `None` for everything else.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }
}

impl FromStr for Quantity {
    type Err = Error;

    /// Digits beyond a billionth are rounded away from zero, as the API server does.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(Error::Syntax);
        }
        let (multiplier, exponent) = unit(suffix).ok_or(Error::Syntax)?;

        // digits × multiplier × 10^exponent, in billionths.
        let mut nanos = digits(whole, fraction)?.checked_mul(multiplier).ok_or(Error::TooLarge)?;
        let written = i32::try_from(fraction.len()).map_err(|_| Error::TooLarge)?;
        let shift = exponent + PLACES - written;
        let factor = 10_i128.checked_pow(shift.unsigned_abs());
        if shift >= 0 {
            nanos = factor.and_then(|f| nanos.checked_mul(f)).ok_or(Error::TooLarge)?;
        } else {
            let factor = factor.unwrap_or(i128::MAX);
            nanos = nanos / factor + i128::from(nanos % factor != 0);
        }
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }
}

fn digits(whole: &str, fraction: &str) -> Result<i128, Error> {
    whole.bytes().chain(fraction.bytes()).try_fold(0_i128, |sum, digit| {
        sum.checked_mul(10).and_then(|sum| sum.checked_add(i128::from(digit - b'0'))).ok_or(Error::TooLarge)
    })
}

/// A suffix as a factor and a power of ten. `E` alone is exa; with a number after it, an exponent.
fn unit(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Beyond this the amount is zero or does not fit.
            (-99..=99).contains(&exponent).then_some((1, exponent))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};
    use serde_json::json;

    use super::{Error, Quantity};

    #[test]
    fn spellings_of_one_amount_are_equal() {
        let rows = [
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1Gi", "1024Mi"),
            ("1k", "1000"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("1e-3", "1m"),
            ("1E", "1000P"),
            ("1.5Gi", "1536Mi"),
            ("+1", "1"),
            ("-1", "-1000m"),
            ("0.0000000001", "1n"),
            ("1u", "1000n"),
            ("4Ei", "4096Pi"),
        ];
        for (left, right) in rows {
            assert_eq!(left.parse::<Quantity>(), right.parse(), "{left} {right}");
            assert!(left.parse::<Quantity>().is_ok(), "{left}");
        }
    }

    #[test]
    fn amounts_are_ordered() {
        let rows = ["-1", "0", "1n", "999m", "1", "1k", "1Ki", "1M", "1Mi", "1Gi", "2e9", "1E"];
        let parsed: Vec<Quantity> = rows.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]), "{parsed:?}");
        assert_eq!(parsed[4], Quantity { nanos: 1_000_000_000 });
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-", ".", "1.2.3", "Gi", "1 Gi", "1gi", "1mi", "1e", "0x1", "1e1000", "one"] {
            assert_eq!(text.parse::<Quantity>(), Err(Error::Syntax), "{text}");
        }
        for text in ["9".repeat(40), "1e90".to_owned(), "99999999999999999999999Ei".to_owned()] {
            assert_eq!(text.parse::<Quantity>(), Err(Error::TooLarge), "{text}");
        }
        assert_eq!("1e-99".parse::<Quantity>(), "1n".parse());
    }

    #[test]
    fn a_number_stands_for_its_text() {
        assert_eq!(Quantity::of(&json!(2)), Quantity::of(&json!("2")));
        assert_eq!(Quantity::of(&json!(0.5)), Quantity::of(&json!("500m")));
        assert_eq!(Quantity::of(&json!(true)), None);
        assert_eq!(Quantity::of(&json!("50%")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_prefix_is_a_factor(amount in 0_u32..1_000_000) {
            let parse = |text: String| text.parse::<Quantity>().unwrap();
            assert_eq!(parse(format!("{amount}m")).nanos * 1000, parse(format!("{amount}")).nanos);
            assert_eq!(parse(format!("{amount}Gi")), parse(format!("{}Mi", u64::from(amount) * 1024)));
        }
    }
}
