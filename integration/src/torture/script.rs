//! What befalls a daemon in a run: a short script, drawn from a seed.
//!
//! Pure: the same seed is the same script, on every machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Point;
use crate::proxy::{Fault, Rule, When};

/// The furthest request at which a daemon is killed: a first installation takes about so many.
const FURTHEST: u32 = 256;

/// What is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Options {
    /// What an installation by them is like.
    pub look: Look,
    /// Seconds for which everything has to stay ready: no object shows it.
    pub settle: u8,
}

/// What an installation is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look {
    /// Trainer 2.3.0 rather than 2.2.1. Going back takes a person, so that no script does.
    pub newer: bool,
    /// The rest.
    pub shape: Shape,
}

/// Variants of an installation, each of which makes, changes and prunes objects on the way to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// As the defaults have it.
    Whole,
    /// One training runtime instead of all.
    OneRuntime,
    /// No LeaderWorkerSet.
    WithoutLws,
    /// A controller with another image.
    OtherImage,
}

/// What the cluster is like when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing is installed.
    Empty,
    /// Version 2.2.1 as [`Shape::Whole`], by a daemon.
    Installed,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Other options are declared.
    Declare(Options),
    /// Somebody changes a field that trainerd owns; which, is drawn from this seed.
    Edit(u64),
    /// Somebody deletes an object of the installation, drawn from this seed.
    Delete(u64),
    /// A daemon is killed when it comes to a request, counted from now, and started again.
    KillAt(Point),
    /// A daemon is killed at once, and started again.
    Kill,
    /// A daemon is asked to end, and started again.
    Stop,
    /// Some of the next requests go wrong.
    Trouble(Rule),
    /// Every watch is cut.
    Cut,
    /// The API server is gone for so long.
    Away(Duration),
    /// A second daemon is started; if there is one already, one of them is killed for good.
    Second,
    /// Somebody writes himself into the lease, for so many seconds, and is not heard of again. His clock may be off.
    Steal(u64),
    /// A person pauses the daemon, or resumes it.
    Pause,
}

/// A run of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What it is drawn from.
    pub seed: u64,
    /// Where it starts.
    pub start: Start,
    /// What is declared at first.
    pub options: Options,
    /// Whether it begins once the daemon has come to rest, rather than as soon as it is started.
    pub rested: bool,
    /// What happens, and how long it is quiet after each event.
    pub steps: Vec<(Event, Duration)>,
}

impl Script {
    /// The script of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let start = if rng.u8(0..3) == 0 { Start::Empty } else { Start::Installed };
        let installed = Options { look: Look { newer: false, shape: Shape::Whole }, settle: 0 };
        let options = if rng.bool() { installed } else { installed.next(&mut rng) };
        let rested = rng.bool();
        let mut declared = options;
        let steps = (0..rng.usize(2..=6))
            .map(|_| {
                let event = Event::draw(&mut rng, &mut declared);
                let idle = if rng.bool() { rng.u64(0..200) } else { rng.u64(0..1500) };
                (event, Duration::from_millis(idle))
            })
            .collect();
        Self { seed, start, options, rested, steps }
    }

    /// What is declared at the end.
    pub fn last(&self) -> Options {
        let declared = |(event, _): &(Event, Duration)| match event {
            Event::Declare(options) => Some(*options),
            _ => None,
        };
        self.steps.iter().rev().find_map(declared).unwrap_or(self.options)
    }
}

impl Event {
    /// Draws one; those that give a daemon something to do come more often.
    fn draw(rng: &mut Rng, declared: &mut Options) -> Self {
        match rng.u8(0..24) {
            0..=4 => {
                *declared = declared.next(rng);
                Self::Declare(*declared)
            }
            5..=7 => Self::Edit(rng.u64(..)),
            8..=10 => Self::Delete(rng.u64(..)),
            11..=13 => {
                // As many of the first ten as of the next hundred: a restart takes few requests.
                let number = 1 << rng.u32(0..FURTHEST.ilog2());
                Self::KillAt(Point { number: number + rng.usize(0..number), after: rng.bool() })
            }
            14 => Self::Kill,
            15 => Self::Stop,
            16..=18 => Self::Trouble(trouble(rng)),
            19 => Self::Cut,
            20 => Self::Away(Duration::from_millis(rng.u64(200..3000))),
            21 => Self::Second,
            22 => Self::Steal(rng.u64(1..=5)),
            _ => Self::Pause,
        }
    }
}

/// Requests that go wrong for a while.
fn trouble(rng: &mut Rng) -> Rule {
    let fault = match rng.u8(0..6) {
        0 => Fault::Reset,
        1 => Fault::Lose,
        2 | 3 => Fault::Answer(429),
        4 => Fault::Answer(if rng.bool() { 500 } else { 503 }),
        _ => Fault::Delay(Duration::from_millis(rng.u64(50..2000))),
    };
    let times = Some(rng.usize(1..=8));
    Rule { when: When::Each { of: rng.usize(1..=10), times }, fault }
}

impl Options {
    /// Other options that may follow these.
    fn next(self, rng: &mut Rng) -> Self {
        loop {
            let newer = self.look.newer || rng.u8(0..3) == 0;
            let shape = match rng.u8(0..5) {
                0 | 1 => Shape::Whole,
                2 => Shape::OneRuntime,
                3 => Shape::WithoutLws,
                _ => Shape::OtherImage,
            };
            let next = Self { look: Look { newer, shape }, settle: u8::from(rng.u8(0..4) == 0) };
            if next != self {
                return next;
            }
        }
    }

    /// By name.
    fn values(self) -> BTreeMap<&'static str, Value> {
        let version = if self.look.newer { "2.3.0" } else { "2.2.1" };
        let mut values = BTreeMap::from([
            ("settle", json!(self.settle)),
            ("small-footprint", json!(true)),
            ("trainer-version", json!(version)),
        ]);
        values.extend(match self.look.shape {
            Shape::Whole => None,
            Shape::OneRuntime => Some(("runtimes", json!("torch-distributed"))),
            Shape::WithoutLws => Some(("components", json!("trainer,jobset"))),
            Shape::OtherImage => Some(("lws-image", json!("registry.example.com/lws:v0.8.0"))),
        });
        values
    }

    /// As a file of options.
    pub fn text(self) -> String {
        self.values().iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name}: {value}");
            text
        })
    }

    /// As a daemon that has them in force calls them.
    pub fn generation(self) -> String {
        hex::encode(Sha256::digest(json!(self.values()).to_string()))
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.look.newer { "2.3.0" } else { "2.2.1" };
        write!(f, "{version} {:?}, settle {}", self.look.shape, self.settle)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declare(options) => write!(f, "declare {options}"),
            Self::Edit(_) => f.write_str("edit"),
            Self::Delete(_) => f.write_str("delete"),
            Self::KillAt(point) => write!(f, "{point} from now"),
            Self::Kill => f.write_str("kill"),
            Self::Stop => f.write_str("stop"),
            Self::Trouble(Rule { when: When::Each { of, times: Some(times) }, fault }) => {
                write!(f, "{fault:?} to every request {of}, {times} times")
            }
            Self::Trouble(rule) => write!(f, "{rule:?}"),
            Self::Cut => f.write_str("cut the watches"),
            Self::Away(time) => write!(f, "no API server for {time:?}"),
            Self::Second => f.write_str("a second daemon, or one less"),
            Self::Steal(seconds) => write!(f, "steal the lease for {seconds} s"),
            Self::Pause => f.write_str("pause or resume"),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rested = if self.rested { ", at rest" } else { "" };
        write!(f, "{:?}, {}{rested}", self.start, self.options)?;
        self.steps.iter().try_for_each(|(event, idle)| write!(f, "; {event}, {} ms", idle.as_millis()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn seeds_are_deterministic_and_a_thousand_cover_all_events() {
        let mut kinds = BTreeSet::new();
        let mut lasts = BTreeSet::new();
        for seed in 0..1000 {
            let script = Script::of(seed);
            assert_eq!(script, Script::of(seed));
            assert!((2..=6).contains(&script.steps.len()));
            let mut newer = script.options.look.newer;
            for (event, _) in &script.steps {
                kinds.insert(event.to_string().split([' ', ',']).next().unwrap_or_default().to_owned());
                match event {
                    Event::Declare(options) => {
                        assert!(options.look.newer || !newer, "seed {seed} goes back: {script}");
                        newer = options.look.newer;
                    }
                    Event::KillAt(point) => assert!((1..=FURTHEST as usize).contains(&point.number)),
                    _ => {}
                }
            }
            lasts.insert(script.last());
        }
        assert_eq!(lasts.len(), 16);
        for word in ["declare", "edit", "delete", "killed", "kill", "stop", "Reset", "Lose", "Answer(429)"] {
            assert!(kinds.contains(word), "{word} is not in {kinds:?}");
        }
        for word in ["Answer(503)", "Answer(500)", "cut", "no", "a", "steal", "pause"] {
            assert!(kinds.contains(word), "{word} is not in {kinds:?}");
        }
    }

    #[test]
    fn options_are_written_to_a_named_file() {
        let look = Look { newer: true, shape: Shape::OneRuntime };
        let options = Options { look, settle: 1 };
        assert_eq!(
            options.text(),
            "runtimes: \"torch-distributed\"\nsettle: 1\nsmall-footprint: true\ntrainer-version: \"2.3.0\"\n"
        );
        assert_eq!(options.generation().len(), 64);
        assert_ne!(options.generation(), Options { settle: 0, ..options }.generation());
    }
}
