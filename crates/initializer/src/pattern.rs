//! Shell-style patterns, as Python's `fnmatch` has them: case counts, and `*` also matches `/`.

/// A pattern over a whole name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// This letter.
    Letter(char),
    /// Any letter: `?`.
    Any,
    /// Any number of letters: `*`.
    Many,
    /// One of these ranges, or none of them: `[a-z]`, `[!a-z]`.
    Class { is_negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Every text is a pattern. One that ends with `/` means everything in that folder, as on the hub.
    pub fn new(text: &str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(&letter) = letters.get(at) {
            at += 1;
            match letter {
                '*' if steps.last() == Some(&Step::Many) => {}
                '*' => steps.push(Step::Many),
                '?' => steps.push(Step::Any),
                '[' => match class(&letters, at) {
                    Some((class, after)) => {
                        steps.push(class);
                        at = after;
                    }
                    // A bracket that nothing closes stands for itself.
                    None => steps.push(Step::Letter('[')),
                },
                _ => steps.push(Step::Letter(letter)),
            }
        }
        if text.ends_with('/') {
            steps.push(Step::Many);
        }
        Self { steps }
    }

    /// Whether the whole name fits. Takes time in proportion to the name's length times the pattern's.
    pub fn matches(&self, name: &str) -> bool {
        let letters: Vec<char> = name.chars().collect();
        let (mut at, mut step) = (0, 0);
        // The last `*`, and the letter that it would take next.
        let mut last: Option<(usize, usize)> = None;
        while at < letters.len() {
            let fits = match self.steps.get(step) {
                Some(Step::Many) => {
                    last = Some((step, at));
                    step += 1;
                    continue;
                }
                Some(single) => letters.get(at).is_some_and(|letter| single.fits(*letter)),
                None => false,
            };
            if fits {
                at += 1;
                step += 1;
            } else if let Some((many, taken)) = last {
                last = Some((many, taken + 1));
                (at, step) = (taken + 1, many + 1);
            } else {
                return false;
            }
        }
        self.steps[step..].iter().all(|step| *step == Step::Many)
    }
}

impl Step {
    fn fits(&self, letter: char) -> bool {
        match self {
            Self::Letter(own) => *own == letter,
            Self::Any | Self::Many => true,
            Self::Class { is_negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != *is_negated
            }
        }
    }
}

/// The class that begins after a bracket, and where the pattern goes on.
fn class(letters: &[char], begin: usize) -> Option<(Step, usize)> {
    let is_negated = letters.get(begin) == Some(&'!');
    let first = begin + usize::from(is_negated);
    // A closing bracket right at the beginning is a letter of the class.
    let close = letters.iter().skip(first + 1).position(|letter| *letter == ']')? + first + 1;
    let mut ranges = Vec::new();
    let mut at = first;
    while at < close {
        let letter = letters[at];
        if at + 2 < close && letters[at + 1] == '-' {
            ranges.push((letter, letters[at + 2]));
            at += 3;
        } else {
            ranges.push((letter, letter));
            at += 1;
        }
    }
    Some((Step::Class { is_negated, ranges }, close + 1))
}

/// Which names are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// A name fits one of these, unless there are none.
    pub allow: Vec<Pattern>,
    /// And none of these.
    pub ignore: Vec<Pattern>,
}

impl Filter {
    /// Whether a name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.allow.is_empty() || fits(&self.allow)) && !fits(&self.ignore)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        let cases = [
            ("*.json", "config.json", true),
            ("*.json", "deep/er/config.json", true),
            ("*.json", "config.JSON", false),
            ("*.json", "config.jsonl", false),
            ("data/*", "data/a/b", true),
            ("data/", "data/a/b", true),
            ("data/", "data2/a", false),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("[a-c]?[!x]", "bzy", true),
            ("[a-c]?[!x]", "bzx", false),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[abc", "[abc", true),
            ("[a-]", "-", true),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*é?", "caféx", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_name_is_wanted_that_is_allowed_and_not_ignored() {
        let filter = Filter { allow: vec![Pattern::new("*.json")], ignore: vec![Pattern::new("secret*")] };
        assert!(filter.wants("a.json") && !filter.wants("a.txt") && !filter.wants("secret.json"));
        assert!(Filter::default().wants("anything"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_and_many_stars_take_no_time(pattern in "[\\*\\?\\[\\]!a-c\\-/]{0,40}", name in "[a-c/\\-\\]]{0,60}") {
            let pattern = Pattern::new(&pattern);
            pattern.matches(&name);
        }

        #[test]
        fn a_text_without_special_letters_matches_itself_alone(text in "[a-zA-Z0-9._]{1,20}", other in "[a-zA-Z0-9._]{1,20}") {
            prop_assert!(Pattern::new(&text).matches(&text));
            prop_assert_eq!(Pattern::new(&text).matches(&other), text == other);
        }
    }
}
