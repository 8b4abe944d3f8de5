//! Random inputs near those that are right: a valid one, changed in a few places.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Tries as many inputs as `TRAINERD_FUZZ` says, `sample` of them without it. The panic's own message is above the seed.
pub(crate) fn fuzz(family: &str, sample: u64, mut try_one: impl FnMut(&mut Rng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let many: u64 = number("TRAINERD_FUZZ").unwrap_or(sample);
    let seed: u64 = number("TRAINERD_FUZZ_SEED").unwrap_or(1);
    let started = std::time::Instant::now();
    for at in 0..many {
        let mut random = Rng::with_seed(seed ^ at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let tried = catch_unwind(AssertUnwindSafe(|| try_one(&mut random)));
        assert!(tried.is_ok(), "{family}: seed {seed}, number {at}");
    }
    println!("{family}: {many} inputs from seed {seed} in {:.1?}", started.elapsed());
}

const WORDS: [&str; 24] = [
    "",
    "a",
    "node",
    "trainer",
    "launcher",
    "0",
    "-1",
    "1e400",
    "9223372036854775808",
    "1Ki",
    "500m",
    "0.0000000001",
    "auto",
    "true",
    "null",
    "nvidia.com/gpu",
    "a.b/c",
    "/",
    "..",
    "%s%n",
    "$(A)",
    "\u{0}\u{1f600}\"\\\n",
    "2026-01-02T03:04:05Z",
    "9999-99-99T99:99:99Z",
];

/// A value of any kind.
pub(crate) fn any(random: &mut Rng) -> Value {
    match random.u8(0..14) {
        0 => Value::Null,
        1 => Value::Bool(random.bool()),
        2 => json!(random.i64(..)),
        3 => json!(random.i32(-3..12)),
        4 => json!(random.f64() * 1e300),
        5 => json!(u64::MAX),
        6 => json!([]),
        7 => json!({}),
        8 => json!([any(random)]),
        9 => json!({ word(random): any(random) }),
        10 => json!("x".repeat(random.usize(0..300))),
        _ => Value::from(word(random)),
    }
}

pub(crate) fn word(random: &mut Rng) -> &'static str {
    WORDS[random.usize(0..WORDS.len())]
}

/// Changes a value in one to five places: other values, keys and items that are gone, doubled, moved or called otherwise.
pub(crate) fn mutate(random: &mut Rng, value: &mut Value) {
    for _ in 0..random.u8(1..6) {
        let place = descend(random, value);
        change(random, place);
    }
}

/// A place somewhere in a value.
fn descend<'v>(random: &mut Rng, value: &'v mut Value) -> &'v mut Value {
    let size = match &*value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if size == 0 || random.u8(0..8) == 0 {
        return value;
    }
    let at = random.usize(0..size);
    match value {
        Value::Array(items) => descend(random, &mut items[at]),
        Value::Object(fields) => {
            let key = fields.keys().nth(at).cloned().unwrap_or_default();
            descend(random, fields.entry(key).or_insert(Value::Null))
        }
        other => other,
    }
}

fn change(random: &mut Rng, value: &mut Value) {
    match (value, random.u8(0..5)) {
        (Value::Object(fields), 0 | 1) => change_fields(random, fields),
        (Value::Array(items), 0) if !items.is_empty() => {
            let at = random.usize(0..items.len());
            let twin = items[at].clone();
            items.push(twin);
        }
        (Value::Array(items), 1) if !items.is_empty() => {
            let (a, b) = (random.usize(0..items.len()), random.usize(0..items.len()));
            items.swap(a, b);
            items.truncate(random.usize(1..=items.len()));
        }
        (Value::String(text), 0..=2) => {
            let at = random.usize(0..=text.chars().count());
            let at = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
            text.insert_str(at, word(random));
        }
        (Value::Number(number), 0 | 1) => {
            let near = number.as_i64().unwrap_or_default();
            let by = [i64::MIN, -1, 1, 1 << 31, i64::MAX][random.usize(0..5)];
            *number = near.wrapping_add(by).into();
        }
        (place, _) => *place = any(random),
    }
}

fn change_fields(random: &mut Rng, fields: &mut Map<String, Value>) {
    let Some(key) = (!fields.is_empty()).then(|| random.usize(0..fields.len())) else {
        fields.insert(word(random).to_owned(), any(random));
        return;
    };
    let key = fields.keys().nth(key).cloned().unwrap_or_default();
    let old = fields.remove(&key).unwrap_or_default();
    match random.u8(0..4) {
        0 => {}
        1 => drop(fields.insert(word(random).to_owned(), old)),
        2 => drop(fields.insert(key.to_uppercase(), old)),
        _ => {
            fields.insert(format!("{key}{}", word(random)), any(random));
            fields.insert(key, old);
        }
    }
}

/// Changes bytes of a text: others, gone, doubled, cut off.
pub(crate) fn scramble(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.u8(0..4) {
        if bytes.is_empty() {
            return bytes.extend(word(random).as_bytes());
        }
        let at = random.usize(0..bytes.len());
        match random.u8(0..5) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..(at + random.usize(0..40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => drop(bytes.splice(at..at, word(random).bytes()).count()),
        }
    }
}
