//! Quantities as Kubernetes writes them: `1`, `500m`, `0.5`, `1Gi`, `1e3` (resource.Quantity).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Add;
use std::str::FromStr;

use serde_json::Value;

/// Decimal digits after the point that a quantity keeps: Kubernetes' own resolution.
const PLACES: i32 = 9;
/// Billionths in one.
const ONE: i128 = 1_000_000_000;
/// The most that a quantity holds, in billionths. More is cut to it, as the API server does.
const MAX: i128 = i64::MAX as i128 * ONE;

/// An amount, exact to a billionth. Two spellings of one amount are equal: `1000m` and `1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    /// `m`, `k`, `M`, ...
    #[default]
    Decimal,
    /// `Ki`, `Mi`, ...
    Binary,
    /// `e3`, `e6`, ...
    Exponent,
}

/// What is wrong with the text of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No digits, or something other than digits, one point and one suffix.
    #[error("failed to read a quantity: not a number with a unit")]
    Syntax,
}

impl Quantity {
    /// The quantity that a manifest's value spells: a string, or a number that the API server accepts
    /// in its place. `None` for everything else.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.trim().parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The smallest whole number that is no less.
    pub fn ceil(self) -> i64 {
        let whole = self.nanos.div_euclid(ONE) + i128::from(self.nanos.rem_euclid(ONE) != 0);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// The whole number that it is, `None` for what is less than nothing or has a fraction.
    pub fn whole(self) -> Option<u64> {
        if self.nanos.rem_euclid(ONE) == 0 { u64::try_from(self.nanos / ONE).ok() } else { None }
    }

    /// So many times this, in the same family.
    #[must_use]
    pub fn times(self, factor: i64) -> Self {
        Self { nanos: cut(self.nanos.checked_mul(i128::from(factor)), self.nanos < 0), family: self.family }
    }
}

/// Beyond what is held, the most that is.
fn cut(nanos: Option<i128>, negative: bool) -> i128 {
    nanos.unwrap_or(if negative { -MAX } else { MAX }).clamp(-MAX, MAX)
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, written in the family of the first that is not zero.
    fn add(self, other: Self) -> Self {
        let family = if self.is_zero() { other.family } else { self.family };
        Self { nanos: cut(self.nanos.checked_add(other.nanos), self.nanos < 0), family }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl fmt::Display for Quantity {
    /// The canonical spelling: no fraction, the largest suffix that allows it. Amounts below 1024 and those with a
    /// fraction are never written with a binary suffix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let is_whole = self.nanos % ONE == 0;
        if self.family == Family::Binary && is_whole && self.nanos.abs() >= 1024 * ONE {
            let mut number = self.nanos / ONE;
            let mut power = 0;
            while number % 1024 == 0 && power < BINARY.len() - 1 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", BINARY[power]);
        }
        let mut number = self.nanos;
        let mut exponent = -PLACES;
        while number % 1000 == 0 && (exponent < 18 || self.family == Family::Exponent) {
            number /= 1000;
            exponent += 3;
        }
        match self.family {
            Family::Exponent if exponent == 0 => write!(f, "{number}"),
            Family::Exponent => write!(f, "{number}e{exponent}"),
            _ => {
                let at = usize::try_from((exponent + PLACES) / 3).unwrap_or(0);
                write!(f, "{number}{}", DECIMAL.get(at).unwrap_or(&""))
            }
        }
    }
}

/// Suffixes of powers of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Suffixes of powers of 1000, from a billionth on.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

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
        let (multiplier, exponent, family) = unit(suffix).ok_or(Error::Syntax)?;
        let nanos = cut(billionths(whole, fraction, multiplier, exponent), false);
        // The API server writes less than one decimally, to avoid rounding.
        let family = if family == Family::Binary && nanos < ONE { Family::Decimal } else { family };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, family })
    }
}

/// digits × multiplier × 10^exponent, in billionths. `None` when that does not fit.
fn billionths(whole: &str, fraction: &str, multiplier: i128, exponent: i32) -> Option<i128> {
    // Digits behind the first twenty of a fraction only round up: enough for the smallest exponent of a suffix.
    let (fraction, rest) = fraction.split_at(fraction.len().min(20));
    let digits = whole.bytes().chain(fraction.bytes()).try_fold(0_i128, |sum, digit| {
        sum.checked_mul(10).and_then(|sum| sum.checked_add(i128::from(digit - b'0')))
    })?;
    let sticky = i128::from(rest.bytes().any(|digit| digit != b'0'));
    let nanos = digits.checked_mul(multiplier)?;
    let shift = exponent + PLACES - i32::try_from(fraction.len()).ok()?;
    let factor = 10_i128.checked_pow(shift.unsigned_abs());
    if shift >= 0 {
        factor.and_then(|factor| nanos.checked_mul(factor)).or((nanos == 0).then_some(0))?.checked_add(sticky)
    } else {
        let factor = factor.unwrap_or(i128::MAX);
        Some(nanos / factor + i128::from(nanos % factor != 0 || sticky != 0))
    }
}

/// A suffix as a factor and a power of ten. `E` alone is exa; with a number after it, an exponent.
fn unit(suffix: &str) -> Option<(i128, i32, Family)> {
    if let Some(power) = BINARY.iter().skip(1).position(|known| *known == suffix) {
        return Some((1_i128 << (10 * (power + 1)), 0, Family::Binary));
    }
    if let Some(at) = DECIMAL.iter().position(|known| *known == suffix) {
        return Some((1, i32::try_from(at).ok()? * 3 - PLACES, Family::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    // Beyond this the amount is zero or does not fit.
    (-99..=99).contains(&exponent).then_some((1, exponent, Family::Exponent))
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
        assert_eq!(parsed[4].nanos, 1_000_000_000);
    }

    #[test]
    fn invalid_quantities_are_rejected() {
        for text in ["", "-", ".", "1.2.3", "Gi", "1 Gi", "1gi", "1mi", "1e", "0x1", "1e1000", "one"] {
            assert_eq!(text.parse::<Quantity>(), Err(Error::Syntax), "{text}");
        }
        assert_eq!("1e-99".parse::<Quantity>(), "1n".parse());
    }

    #[test]
    fn large_quantities_are_capped() {
        for text in ["9".repeat(40), "1e90".to_owned(), "99999999999999999999999Ei".to_owned()] {
            assert_eq!(text.parse::<Quantity>().map(Quantity::ceil), Ok(i64::MAX), "{text}");
        }
    }

    #[test]
    fn the_canonical_spelling_is_that_of_kubernetes() {
        for (text, expected) in [
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("12000k", "12M"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1500e0", "1500"),
            ("100e21", "9223372036854775807"),
            ("0.0001", "100u"),
            ("0.5Mi", "512Ki"),
            ("1000Ki", "1000Ki"),
            ("0Gi", "0"),
            ("-1500m", "-1500m"),
            ("1E", "1E"),
            ("0.1Ki", "102400m"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn sums_keep_the_format_of_the_first_operand() {
        let sum = |texts: &[&str]| {
            let parsed = texts.iter().map(|text| text.parse::<Quantity>().unwrap());
            parsed.fold(Quantity::default(), |sum, one| sum + one).to_string()
        };
        for (texts, expected) in [
            (&["512Mi", "1G"][..], "1536870912"),
            (&["1Gi", "1Gi"], "2Gi"),
            (&["0", "1Gi", "1024"], "1048577Ki"),
            (&["1500m", "500m"], "2"),
            (&[], "0"),
        ] {
            assert_eq!(sum(texts), expected, "{texts:?}");
        }
        assert_eq!("1536Mi".parse::<Quantity>().unwrap().times(2).to_string(), "3Gi");
        assert_eq!("1500m".parse::<Quantity>().unwrap().ceil(), 2);
        assert_eq!("-1500m".parse::<Quantity>().unwrap().ceil(), -1);
    }

    #[test]
    fn integers_are_recognized() {
        for (text, whole) in
            [("1Gi", Some(1 << 30)), ("1000m", Some(1)), ("0.5", None), ("-1", None), ("0", Some(0))]
        {
            assert_eq!(text.parse::<Quantity>().unwrap().whole(), whole, "{text}");
        }
    }

    #[test]
    fn numbers_are_parsed_like_strings() {
        assert_eq!(Quantity::of(&json!(2)), Quantity::of(&json!("2")));
        assert_eq!(Quantity::of(&json!(0.5)), Quantity::of(&json!("500m")));
        assert_eq!(Quantity::of(&json!(true)), None);
        assert_eq!(Quantity::of(&json!("50%")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_handled(text in "[-+]?[0-9.]{0,40}[a-zA-Z]{0,2}[-+0-9]{0,4}") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let spelled = quantity.to_string();
                assert_eq!(spelled.parse(), Ok(quantity), "{text} {spelled}");
                assert_eq!(spelled.parse::<Quantity>().unwrap().to_string(), spelled, "{text}");
                let _ = quantity.times(i64::MIN) + quantity;
            }
        }

        #[test]
        fn a_prefix_is_a_factor(amount in 0_u32..1_000_000) {
            let parse = |text: String| text.parse::<Quantity>().unwrap();
            assert_eq!(parse(format!("{amount}m")).nanos * 1000, parse(format!("{amount}")).nanos);
            assert_eq!(parse(format!("{amount}Gi")), parse(format!("{}Mi", u64::from(amount) * 1024)));
        }
    }
}
