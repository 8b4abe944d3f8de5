//! Splits a line of the table into tokens.

use serde_json::Value;

use crate::parse::Problem;

/// A token of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// `"…"`, unescaped.
    Text(String),
    /// `word` or `word(argument,…)`.
    Word { word: &'a str, args: Option<Vec<Value>>, raw: &'a str },
}

/// Splits one line. Comments are left out. The error names the rest of the line where it went wrong.
pub(crate) fn tokens(line: &str) -> Result<Vec<Token<'_>>, (Problem, &str)> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (token, after) = next(rest).map_err(|problem| (problem, rest.trim_end()))?;
        found.push(token);
        rest = after.trim_start();
    }
    Ok(found)
}

fn next(rest: &str) -> Result<(Token<'_>, &str), Problem> {
    if rest.starts_with('"') {
        let (text, after) = string(rest)?;
        return Ok((Token::Text(text), after));
    }
    let end = rest.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    if word.is_empty() {
        return Err(Problem::Malformed);
    }
    let Some(mut inner) = after.strip_prefix('(') else {
        return Ok((Token::Word { word, args: None, raw: word }, after));
    };
    let mut args = Vec::new();
    loop {
        let (arg, after) = argument(inner.trim_start())?;
        args.push(arg);
        let after = after.trim_start();
        match after.split_at_checked(1) {
            Some((",", more)) => inner = more,
            Some((")", more)) => {
                let raw = rest.get(..rest.len() - more.len()).unwrap_or(rest);
                return Ok((Token::Word { word, args: Some(args), raw }, more));
            }
            _ => return Err(Problem::Unclosed),
        }
    }
}

/// A JSON string, object or list, or a bare word: a JSON value where it reads as one, else a string.
fn argument(rest: &str) -> Result<(Value, &str), Problem> {
    if rest.starts_with('"') {
        return string(rest).map(|(text, after)| (Value::String(text), after));
    }
    if rest.starts_with(['{', '[']) {
        return json(rest);
    }
    let end = rest.find([',', ')']).ok_or(Problem::Unclosed)?;
    let (word, after) = rest.split_at(end);
    let word = word.trim_end();
    if word.is_empty() || word.contains([' ', '"', '(']) {
        return Err(Problem::Malformed);
    }
    Ok((serde_json::from_str(word).unwrap_or_else(|_| Value::String(word.to_owned())), after))
}

fn string(rest: &str) -> Result<(String, &str), Problem> {
    json(rest)
}

/// What JSON there is, and what follows it.
fn json<T: serde::de::DeserializeOwned>(rest: &str) -> Result<(T, &str), Problem> {
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<T>();
    match values.next() {
        Some(Ok(text)) => {
            let end = values.byte_offset();
            Ok((text, rest.get(end..).unwrap_or_default()))
        }
        Some(Err(error)) if !error.is_eof() => Err(Problem::Malformed),
        _ => Err(Problem::Unclosed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn word<'a>(word: &'a str, args: Option<Value>, raw: &'a str) -> Token<'a> {
        Token::Word { word, args: args.map(|args| args.as_array().unwrap().clone()), raw }
    }

    #[test]
    fn splits_words_arguments_and_strings() {
        for (line, expected) in [
            ("  name string", vec![word("name", None, "name"), word("string", None, "string")]),
            ("# nothing", vec![]),
            ("a # comment", vec![word("a", None, "a")]),
            ("enum(A, b,\"\")", vec![word("enum", Some(json!(["A", "b", ""])), "enum(A, b,\"\")")]),
            (
                "d(true) e(1)",
                vec![word("d", Some(json!([true])), "d(true)"), word("e", Some(json!([1])), "e(1)")],
            ),
            ("d({\"a\":{}})", vec![word("d", Some(json!([{"a": {}}])), "d({\"a\":{}})")]),
            ("d(\"1\")", vec![word("d", Some(json!(["1"])), "d(\"1\")")]),
            (
                "p(\"^a(b|,)$\")x",
                vec![word("p", Some(json!(["^a(b|,)$"])), "p(\"^a(b|,)$\")"), word("x", None, "x")],
            ),
            ("\"a \\\"b\\\" # c\" d", vec![Token::Text("a \"b\" # c".into()), word("d", None, "d")]),
        ] {
            assert_eq!(tokens(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn errors_name_the_position() {
        for (line, expected) in [
            ("a enum(b", (Problem::Unclosed, "enum(b")),
            ("a enum(\"b", (Problem::Unclosed, "enum(\"b")),
            ("a \"b", (Problem::Unclosed, "\"b")),
            ("a enum()", (Problem::Malformed, "enum()")),
            ("a enum(b,)", (Problem::Malformed, "enum(b,)")),
            ("a enum(b c)", (Problem::Malformed, "enum(b c)")),
            ("a (b)", (Problem::Malformed, "(b)")),
            ("a \"\\q\"", (Problem::Malformed, "\"\\q\"")),
        ] {
            assert_eq!(tokens(line), Err(expected), "{line}");
        }
    }
}
