//! An error with its causes: to look through, and as the one line that logs, records and Events hold.

use std::error::Error;
use std::io;
use std::iter;

/// An error and its causes, outermost first.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| {
        // An io::Error that wraps another error gives the other's source as its own, which skips one.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// What an error and its causes say, outermost first. Libraries often repeat a cause in their own text; what was said
/// already is left out.
pub fn texts(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut said = in_one_line(&texts[0]);
    for cause in error.source().into_iter().flat_map(causes) {
        let text = cause.to_string();
        let line = in_one_line(&text);
        if !said.contains(&line) {
            said = line;
            texts.push(text);
        }
    }
    texts
}

/// An error and its causes in one line.
pub fn one_line(error: &dyn Error) -> String {
    let lines = texts(error).into_iter().map(|text| in_one_line(&text));
    lines.collect::<Vec<_>>().join(": ")
}

/// A text without line breaks, and without the excerpt of a file that YAML errors show.
pub fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("-->"));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Option<Box<Layer>> {
        let (text, rest) = texts.split_first()?;
        Some(Box::new(Layer { text, source: layers(rest) }))
    }

    #[test]
    fn causes_are_one_line_without_repetition() {
        for (said, line) in [
            (&["what"][..], "what"),
            (&["what", "why", "deeper"], "what: why: deeper"),
            (
                &["what", "why: because\nof this", "because of this", "deeper"],
                "what: why: because of this: deeper",
            ),
            // The cause of a cause that the outermost says as well.
            (&["read: GET: no host", "GET: no host", "no host", "errno 2"], "read: GET: no host: errno 2"),
            (&["bad file", "line 3\n  --> f.yaml\n   | x: [", ""], "bad file: line 3"),
        ] {
            assert_eq!(one_line(&layers(said).unwrap()), line, "{said:?}");
        }
        assert_eq!(texts(&layers(&["what", "a\nb", "a b"]).unwrap()), ["what", "a\nb"]);
    }

    #[test]
    fn the_cause_inside_an_io_error_is_shown() {
        let outer = io::Error::other(layers(&["inner", "innermost"]).unwrap());
        let all: Vec<_> = causes(&outer).map(ToString::to_string).collect();
        assert_eq!(all, ["inner", "inner", "innermost"]);
        assert_eq!(one_line(&outer), "inner: innermost");
    }
}
