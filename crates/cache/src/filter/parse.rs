//! Reads filters.

use super::{Comparison, Error, Filter, Literal};

/// Most parentheses and nots in each other: a bound of the stack.
const DEPTH: usize = 100;

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Filter, Error> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.chars().count() + 1 };
    let filter = parser.or(0)?;
    match parser.tokens.get(parser.at) {
        None => Ok(filter),
        Some((at, _)) => Err(Error::Syntax { at: *at, expected: "and, or, or the end" }),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A word, a number, or a sign.
    Plain(String),
    /// In single quotes.
    Text(String),
    /// In double quotes.
    Quoted(String),
}

/// The tokens, each with the number of its first letter.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Error> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        let begin = at;
        let number = begin + 1;
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let token = match letter {
            '\'' | '"' => {
                let (inside, after) = quoted(&letters, at, letter)?;
                at = after;
                if letter == '"' { Token::Quoted(inside) } else { Token::Text(inside) }
            }
            '(' | ')' | ',' | '=' => {
                at += 1;
                Token::Plain(letter.to_string())
            }
            '<' | '>' | '!' => {
                at += if letters.get(at + 1) == Some(&'=') { 2 } else { 1 };
                Token::Plain(letters[begin..at].iter().collect())
            }
            _ if is_word(letter) || letter == '-' || letter == '+' => {
                at += 1;
                while letters.get(at).is_some_and(|next| is_word(*next) || is_exponent(&letters, begin, at)) {
                    at += 1;
                }
                Token::Plain(letters[begin..at].iter().collect())
            }
            _ => return Err(Error::Syntax { at: number, expected: "a column, an operator or a literal" }),
        };
        tokens.push((number, token));
    }
    Ok(tokens)
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '.'
}

/// Whether a sign belongs to a number, as in `1e-5`.
fn is_exponent(letters: &[char], begin: usize, at: usize) -> bool {
    matches!(letters[at], '-' | '+')
        && matches!(letters[at - 1], 'e' | 'E')
        && letters[begin..at - 1]
            .iter()
            .all(|letter| letter.is_ascii_digit() || matches!(letter, '.' | '-' | '+'))
        && letters[begin..at - 1].iter().any(char::is_ascii_digit)
}

/// What is between quotes, and where the text goes on. A quote that is written twice stands for itself.
fn quoted(letters: &[char], begin: usize, quote: char) -> Result<(String, usize), Error> {
    let mut inside = String::new();
    let mut at = begin + 1;
    loop {
        match letters.get(at) {
            None => return Err(Error::Syntax { at: begin + 1, expected: "a closing quote after it" }),
            Some(letter) if *letter == quote && letters.get(at + 1) == Some(&quote) => {
                inside.push(quote);
                at += 2;
            }
            Some(letter) if *letter == quote => return Ok((inside, at + 1)),
            Some(letter) => {
                inside.push(*letter);
                at += 1;
            }
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
}

impl Parser {
    fn fail<T>(&self, expected: &'static str) -> Result<T, Error> {
        let at = self.tokens.get(self.at).map_or(self.end, |(at, _)| *at);
        Err(Error::Syntax { at, expected })
    }

    /// Takes a word or a sign, whatever the case of its letters.
    fn take(&mut self, word: &str) -> bool {
        let is_it = matches!(
            self.tokens.get(self.at),
            Some((_, Token::Plain(plain))) if plain.eq_ignore_ascii_case(word)
        );
        self.at += usize::from(is_it);
        is_it
    }

    fn or(&mut self, depth: usize) -> Result<Filter, Error> {
        let mut filter = self.and(depth)?;
        while self.take("or") {
            filter = Filter::Or(Box::new(filter), Box::new(self.and(depth)?));
        }
        Ok(filter)
    }

    fn and(&mut self, depth: usize) -> Result<Filter, Error> {
        let mut filter = self.not(depth)?;
        while self.take("and") {
            filter = Filter::And(Box::new(filter), Box::new(self.not(depth)?));
        }
        Ok(filter)
    }

    fn not(&mut self, depth: usize) -> Result<Filter, Error> {
        if depth > DEPTH {
            return Err(Error::Depth(DEPTH));
        }
        if self.take("not") {
            return Ok(Filter::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take("(") {
            let filter = self.or(depth + 1)?;
            return if self.take(")") { Ok(filter) } else { self.fail("and, or, or )") };
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Filter, Error> {
        let column = match self.tokens.get(self.at) {
            Some((_, Token::Quoted(name))) => name.clone(),
            Some((_, Token::Plain(name))) if is_name(name) => name.clone(),
            _ => return self.fail("a column, not, or ("),
        };
        self.at += 1;
        if self.take("is") {
            let is_not = self.take("not");
            if !self.take("null") {
                return self.fail("null");
            }
            return Ok(negated(is_not, Filter::IsNull(column)));
        }
        let is_not = self.take("not");
        if self.take("in") {
            return Ok(negated(is_not, Filter::In(column, self.list()?)));
        }
        if is_not {
            return self.fail("in");
        }
        let comparisons = [
            ("=", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            (">=", Comparison::GreaterOrEqual),
        ];
        match comparisons.into_iter().find(|(sign, _)| self.take(sign)) {
            Some((_, comparison)) => Ok(Filter::Compare(column, comparison, self.literal()?)),
            None => self.fail("=, !=, <, <=, >, >=, in, not in or is"),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, Error> {
        if !self.take("(") {
            return self.fail("(");
        }
        let mut literals = vec![self.literal()?];
        while self.take(",") {
            literals.push(self.literal()?);
        }
        if self.take(")") { Ok(literals) } else { self.fail("a comma or )") }
    }

    fn literal(&mut self) -> Result<Literal, Error> {
        for (word, value) in [("true", true), ("false", false)] {
            if self.take(word) {
                return Ok(Literal::Boolean(value));
            }
        }
        for (word, of) in
            [("date", Literal::Date as fn(String) -> Literal), ("timestamp", Literal::Timestamp)]
        {
            if self.take(word) {
                return self.text().map_or_else(|| self.fail("a text in single quotes"), |text| Ok(of(text)));
            }
        }
        if let Some(text) = self.text() {
            return Ok(Literal::Text(text));
        }
        match self.tokens.get(self.at) {
            Some((_, Token::Plain(number))) if is_number(number) => {
                let number = number.clone();
                self.at += 1;
                Ok(Literal::Number(number))
            }
            _ => self.fail("a number, a text in single quotes, true, false, date or timestamp"),
        }
    }

    fn text(&mut self) -> Option<String> {
        let Some((_, Token::Text(text))) = self.tokens.get(self.at) else { return None };
        let text = text.clone();
        self.at += 1;
        Some(text)
    }
}

fn negated(is_not: bool, filter: Filter) -> Filter {
    if is_not { Filter::Not(Box::new(filter)) } else { filter }
}

/// Whether a word may be a column without quotes.
fn is_name(word: &str) -> bool {
    let is_reserved = ["and", "or", "not", "in", "is", "null", "true", "false"]
        .into_iter()
        .any(|reserved| word.eq_ignore_ascii_case(reserved));
    word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_') && !is_reserved
}

fn is_number(word: &str) -> bool {
    word.contains(|letter: char| letter.is_ascii_digit()) && word.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(column: &str, comparison: Comparison, literal: Literal) -> Filter {
        Filter::Compare(column.to_owned(), comparison, literal)
    }

    fn number(text: &str) -> Literal {
        Literal::Number(text.to_owned())
    }

    #[test]
    fn filters_are_read_as_they_are_written() {
        let less = compare("a", Comparison::Less, number("-1.5e-3"));
        let text = compare("b c", Comparison::Equal, Literal::Text("it's".into()));
        assert_eq!(
            parse("a < -1.5e-3 OR \"b c\" = 'it''s' and not (d is not null)").unwrap(),
            Filter::Or(
                Box::new(less),
                Box::new(Filter::And(
                    Box::new(text),
                    Box::new(Filter::Not(Box::new(Filter::Not(Box::new(Filter::IsNull("d".into()))))))
                ))
            )
        );
        assert_eq!(
            parse("x not in (1, 2)").unwrap(),
            Filter::Not(Box::new(Filter::In("x".into(), vec![number("1"), number("2")])))
        );
        assert_eq!(
            parse("t>=timestamp '2026-01-01T00:00:00Z'").unwrap(),
            compare("t", Comparison::GreaterOrEqual, Literal::Timestamp("2026-01-01T00:00:00Z".into()))
        );
        let filter = parse("b = 1 and a = true or b is null").unwrap();
        assert_eq!(filter.columns().into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let cases = [
            ("", "the filter is wrong at letter 1: expected a column, not, or ("),
            ("a", "the filter is wrong at letter 2: expected =, !=, <, <=, >, >=, in, not in or is"),
            (
                "a = ",
                "the filter is wrong at letter 5: expected a number, a text in single quotes, true, false, date or timestamp",
            ),
            ("a = 1 b", "the filter is wrong at letter 7: expected and, or, or the end"),
            ("(a = 1", "the filter is wrong at letter 7: expected and, or, or )"),
            ("a = 'x", "the filter is wrong at letter 5: expected a closing quote after it"),
            ("a ; b", "the filter is wrong at letter 3: expected a column, an operator or a literal"),
            (
                "a in ()",
                "the filter is wrong at letter 7: expected a number, a text in single quotes, true, false, date or timestamp",
            ),
            ("a is 1", "the filter is wrong at letter 6: expected null"),
            ("a = date 1", "the filter is wrong at letter 10: expected a text in single quotes"),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), error);
        }
        assert_eq!(parse(&"(".repeat(10_000)), Err(Error::Depth(DEPTH)));
        assert_eq!(parse(&"not ".repeat(10_000)), Err(Error::Depth(DEPTH)));
    }
}
