//! Reads tables from text, and checks that they hold together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::gate::Gate;
use crate::lexer::{self, Token};
use crate::table::{Bounds, Facts, Field, Merge, PatchMerge, Row, Rule, Scalar, Shape, Table, Type};

/// A line that does not read, or names something that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {file}:{line}: {problem}: `{token}`")]
pub struct ParseError {
    /// Name of the table.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
    /// The word it is wrong with.
    pub token: String,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A string or parenthesis that the line does not close.
    #[error("unclosed string or parenthesis")]
    Unclosed,
    /// Neither a word nor a string.
    #[error("malformed word or argument")]
    Malformed,
    /// A line that begins with none of `type`, `alias` and `rule`.
    #[error("expected `type`, `alias` or `rule`")]
    UnknownDefinition,
    /// A field before the first type, or below an alias or rule.
    #[error("field outside of a type")]
    FieldOutsideType,
    /// A line that ends before its shape, its name or its expression.
    #[error("line ends too early")]
    Incomplete,
    /// No such fact, or not there.
    #[error("unknown fact")]
    UnknownFact,
    /// The fact takes other arguments.
    #[error("wrong arguments")]
    WrongArguments,
    /// The fact says nothing about a value of this shape.
    #[error("fact does not fit the shape")]
    Misplaced,
    /// Neither `axis>=version` nor `axis<version`.
    #[error("malformed gate")]
    MalformedGate,
    /// The name is taken, by a line that this one's gates do not exclude.
    #[error("defined twice")]
    Duplicate,
    /// No type or alias has this name.
    #[error("unknown type")]
    UnknownType,
    /// No rule has this name.
    #[error("unknown rule")]
    UnknownRule,
    /// The type contains itself, which a schema without references cannot say.
    #[error("type contains itself")]
    Recursive,
}

impl Table {
    /// Reads files, each a name (for errors) and its text. Definitions may be used before they come and
    /// across files.
    ///
    /// # Errors
    /// The first line that does not read, or uses a name that no file defines.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ParseError> {
        let mut parser = Parser::default();
        for (file, text) in files {
            file.clone_into(&mut parser.file);
            parser.open = None;
            for (number, line) in text.lines().enumerate() {
                parser.line = number + 1;
                parser.read(line)?;
            }
        }
        parser.link()
    }
}

/// A name that a line uses.
struct Use {
    file: String,
    line: usize,
    name: String,
    is_rule: bool,
}

#[derive(Default)]
struct Parser {
    table: Table,
    file: String,
    line: usize,
    /// The type whose fields are being read.
    open: Option<String>,
    uses: Vec<Use>,
    /// Where each type begins.
    places: BTreeMap<String, (String, usize)>,
}

impl Parser {
    fn error(&self, problem: Problem, token: &str) -> ParseError {
        ParseError { file: self.file.clone(), line: self.line, problem, token: token.to_owned() }
    }

    fn read(&mut self, line: &str) -> Result<(), ParseError> {
        let tokens = lexer::tokens(line).map_err(|(problem, at)| self.error(problem, at))?;
        let Some((first, rest)) = tokens.split_first() else { return Ok(()) };
        let first = self.word(first)?;
        if line.starts_with(char::is_whitespace) {
            return self.field(first, rest);
        }
        self.open = None;
        let (name, rest) = rest.split_first().ok_or_else(|| self.error(Problem::Incomplete, first))?;
        let name = self.word(name)?;
        match first {
            "type" => self.open_type(name, rest),
            "alias" => self.alias(name, rest),
            "rule" => self.rule(name, rest),
            _ => Err(self.error(Problem::UnknownDefinition, first)),
        }
    }

    fn word<'a>(&self, token: &Token<'a>) -> Result<&'a str, ParseError> {
        match token {
            Token::Word { word, args: None, .. } => Ok(word),
            Token::Word { raw, .. } => Err(self.error(Problem::WrongArguments, raw)),
            Token::Text(text) => Err(self.error(Problem::Malformed, text)),
        }
    }

    fn open_type(&mut self, name: &str, rest: &[Token<'_>]) -> Result<(), ParseError> {
        if self.table.types.contains_key(name) || self.table.aliases.contains_key(name) {
            return Err(self.error(Problem::Duplicate, name));
        }
        let mut facts = Facts::default();
        for token in rest {
            self.fact(token, &Shape::Scalar(Scalar::Object), &mut facts)?;
        }
        self.table.types.insert(name.to_owned(), Type { facts, fields: Vec::new() });
        self.places.insert(name.to_owned(), (self.file.clone(), self.line));
        self.open = Some(name.to_owned());
        Ok(())
    }

    fn alias(&mut self, name: &str, rest: &[Token<'_>]) -> Result<(), ParseError> {
        let (required, row) = self.row(name, rest)?;
        if required {
            return Err(self.error(Problem::UnknownFact, "required"));
        }
        let known = self.table.aliases.get(name);
        let clash = known.is_some_and(|known| known.iter().any(|other| meet(&other.gates, &row.gates)));
        if clash || self.table.types.contains_key(name) {
            return Err(self.error(Problem::Duplicate, name));
        }
        self.table.aliases.entry(name.to_owned()).or_default().push(row);
        Ok(())
    }

    fn field(&mut self, name: &str, rest: &[Token<'_>]) -> Result<(), ParseError> {
        let (required, row) = self.row(name, rest)?;
        let open = self.open.as_ref().and_then(|open| self.table.types.get(open));
        let open = open.ok_or_else(|| self.error(Problem::FieldOutsideType, name))?;
        if open.fields.iter().any(|other| other.name == name && meet(&other.row.gates, &row.gates)) {
            return Err(self.error(Problem::Duplicate, name));
        }
        if let Some(open) = self.open.as_ref().and_then(|open| self.table.types.get_mut(open)) {
            open.fields.push(Field { name: name.to_owned(), required, row });
        }
        Ok(())
    }

    /// The part of a line behind the name: shape, facts, gates.
    fn row(&mut self, name: &str, rest: &[Token<'_>]) -> Result<(bool, Row), ParseError> {
        let (shape, rest) = rest.split_first().ok_or_else(|| self.error(Problem::Incomplete, name))?;
        let shape = self.shape(self.word(shape)?)?;
        let mut row = Row { shape, facts: Facts::default(), gates: Vec::new() };
        let mut required = false;
        for token in rest {
            if let Some(gate) = self.gate(token)? {
                row.gates.push(gate);
            } else if matches!(token, Token::Word { word: "required", args: None, .. }) {
                required = true;
            } else {
                self.fact(token, &row.shape, &mut row.facts)?;
            }
        }
        Ok((required, row))
    }

    fn shape(&mut self, text: &str) -> Result<Shape, ParseError> {
        if let Some(inner) = text.strip_prefix("[]") {
            return Ok(Shape::List(Box::new(self.shape(inner)?)));
        }
        if let Some(inner) = text.strip_prefix("{}") {
            return Ok(Shape::Map(Box::new(self.shape(inner)?)));
        }
        Ok(Shape::Scalar(match text {
            "string" => Scalar::String,
            "bool" => Scalar::Bool,
            "int" => Scalar::Int,
            "int32" => Scalar::Int32,
            "int64" => Scalar::Int64,
            "int-or-string" => Scalar::IntOrString,
            "object" => Scalar::Object,
            "" => return Err(self.error(Problem::Incomplete, text)),
            name => {
                self.uses(name, false);
                return Ok(Shape::Named(name.to_owned()));
            }
        }))
    }

    fn uses(&mut self, name: &str, is_rule: bool) {
        self.uses.push(Use { file: self.file.clone(), line: self.line, name: name.to_owned(), is_rule });
    }

    fn gate(&self, token: &Token<'_>) -> Result<Option<Gate>, ParseError> {
        match token {
            Token::Word { word, args: None, .. } if word.contains(['<', '>']) => {
                let gate = Gate::parse(word).ok_or_else(|| self.error(Problem::MalformedGate, word))?;
                Ok(Some(gate))
            }
            _ => Ok(None),
        }
    }

    fn fact(&mut self, token: &Token<'_>, shape: &Shape, facts: &mut Facts) -> Result<(), ParseError> {
        let (word, args, raw) = match token {
            Token::Word { word, args, raw } => (*word, args.as_deref().unwrap_or_default(), *raw),
            Token::Text(text) => return Err(self.error(Problem::UnknownFact, text)),
        };
        let is_list = matches!(shape, Shape::List(_));
        let is_leaf = matches!(shape, Shape::Scalar(scalar) if *scalar != Scalar::Object);
        if matches!(word, "set" | "map" | "items" | "merge") && !is_list
            || word == "granular" && (is_list || is_leaf)
            || word == "atomic" && is_leaf
        {
            return Err(self.error(Problem::Misplaced, raw));
        }
        match (word, args) {
            ("nullable", []) => facts.nullable = true,
            ("preserve-unknown-fields", []) => facts.preserve_unknown_fields = true,
            ("embedded-resource", []) => facts.embedded_resource = true,
            ("atomic", []) => facts.merge = Some(Merge::Atomic),
            ("granular", []) => facts.merge = Some(Merge::Granular),
            ("set", []) => facts.merge = Some(Merge::Set),
            ("map", keys @ [_, ..]) => {
                let keys = keys.iter().map(|key| key.as_str().map(str::to_owned)).collect::<Option<_>>();
                facts.merge = Some(Merge::Map(keys.ok_or_else(|| self.error(Problem::WrongArguments, raw))?));
            }
            ("merge", []) => facts.patch = Some(PatchMerge::Values),
            ("merge", [Value::String(key)]) => facts.patch = Some(PatchMerge::Key(key.clone())),
            ("default", [value]) => facts.default = Some(value.clone()),
            ("enum", values @ [_, ..]) => facts.allowed = values.to_vec(),
            ("pattern", [Value::String(text)]) => facts.pattern = Some(text.clone()),
            ("format", [Value::String(text)]) => facts.format = Some(text.clone()),
            ("rule", [Value::String(name)]) => {
                self.uses(name, true);
                facts.rules.push(name.clone());
            }
            ("range" | "length" | "items" | "properties", [bounds]) => {
                let bounds = bounds.as_str().and_then(bounds_of);
                let bounds = bounds.ok_or_else(|| self.error(Problem::WrongArguments, raw))?;
                match word {
                    "range" => facts.range = bounds,
                    "length" => facts.length = bounds,
                    "items" => facts.items = bounds,
                    _ => facts.properties = bounds,
                }
            }
            _ if FACTS.contains(&word) => return Err(self.error(Problem::WrongArguments, raw)),
            _ => return Err(self.error(Problem::UnknownFact, raw)),
        }
        Ok(())
    }

    fn rule(&mut self, name: &str, rest: &[Token<'_>]) -> Result<(), ParseError> {
        let Some((Token::Text(expression), rest)) = rest.split_first() else {
            return Err(self.error(Problem::Incomplete, name));
        };
        let mut rule = Rule {
            expression: expression.clone(),
            message: None,
            reason: None,
            field_path: None,
            optional_old_self: false,
            gates: Vec::new(),
        };
        for token in rest {
            if let Some(gate) = self.gate(token)? {
                rule.gates.push(gate);
                continue;
            }
            let (word, args, raw) = match token {
                Token::Word { word, args, raw } => (*word, args.as_deref().unwrap_or_default(), *raw),
                Token::Text(text) => return Err(self.error(Problem::UnknownFact, text)),
            };
            match (word, args) {
                ("message", [Value::String(text)]) => rule.message = Some(text.clone()),
                ("reason", [Value::String(text)]) => rule.reason = Some(text.clone()),
                ("field-path", [Value::String(text)]) => rule.field_path = Some(text.clone()),
                ("optional-old-self", []) => rule.optional_old_self = true,
                ("message" | "reason" | "field-path" | "optional-old-self", _) => {
                    return Err(self.error(Problem::WrongArguments, raw));
                }
                _ => return Err(self.error(Problem::UnknownFact, raw)),
            }
        }
        let known = self.table.rules.entry(name.to_owned()).or_default();
        if known.iter().any(|other| meet(&other.gates, &rule.gates)) {
            return Err(self.error(Problem::Duplicate, name));
        }
        known.push(rule);
        Ok(())
    }

    /// Checks that every name used is defined and that no type contains itself.
    fn link(self) -> Result<Table, ParseError> {
        let table = &self.table;
        for used in &self.uses {
            let known = if used.is_rule {
                table.rules.contains_key(&used.name)
            } else {
                table.types.contains_key(&used.name) || table.aliases.contains_key(&used.name)
            };
            if !known {
                let problem = if used.is_rule { Problem::UnknownRule } else { Problem::UnknownType };
                return Err(ParseError {
                    file: used.file.clone(),
                    line: used.line,
                    problem,
                    token: used.name.clone(),
                });
            }
        }
        let mut sound = BTreeSet::new();
        for name in table.types.keys().chain(table.aliases.keys()) {
            if let Some(at) = recursion(table, name, &mut Vec::new(), &mut sound) {
                let (file, line) = self.places.get(at).cloned().unwrap_or_default();
                return Err(ParseError { file, line, problem: Problem::Recursive, token: at.to_owned() });
            }
        }
        Ok(self.table)
    }
}

/// Words that [`Parser::fact`] knows, to tell an unknown fact from one with wrong arguments.
const FACTS: [&str; 17] = [
    "nullable",
    "preserve-unknown-fields",
    "embedded-resource",
    "atomic",
    "granular",
    "set",
    "map",
    "merge",
    "default",
    "enum",
    "pattern",
    "format",
    "rule",
    "range",
    "length",
    "items",
    "properties",
];

fn bounds_of(text: &str) -> Option<Bounds> {
    let (min, max) = text.split_once("..")?;
    let end = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
    let bounds = Bounds { min: end(min).ok()?, max: end(max).ok()? };
    (bounds != Bounds::default()).then_some(bounds)
}

/// Whether two lines with these gates may hold at once. An ungated line holds always; two gated ones are
/// distinguished when a schema is made, where the levels are known.
fn meet(one: &[Gate], other: &[Gate]) -> bool {
    one.is_empty() || other.is_empty() || one == other
}

/// A type below `name` that contains itself. `sound` remembers what is known not to.
fn recursion<'a>(
    table: &'a Table,
    name: &'a str,
    above: &mut Vec<&'a str>,
    sound: &mut BTreeSet<&'a str>,
) -> Option<&'a str> {
    if sound.contains(name) {
        return None;
    }
    if above.contains(&name) {
        return Some(name);
    }
    above.push(name);
    let fields = table.types.get(name).into_iter().flat_map(|of| of.fields.iter().map(|field| &field.row));
    let rows = fields.chain(table.aliases.get(name).into_iter().flatten());
    for row in rows {
        if let Some(at) = named(&row.shape).and_then(|inner| recursion(table, inner, above, sound)) {
            return Some(at);
        }
    }
    above.pop();
    sound.insert(name);
    None
}

fn named(shape: &Shape) -> Option<&str> {
    match shape {
        Shape::Scalar(_) => None,
        Shape::Named(name) => Some(name),
        Shape::List(inner) | Shape::Map(inner) => named(inner),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Table, ParseError> {
        Table::parse([("test", text)])
    }

    #[test]
    fn reads_every_part_of_a_line() {
        let table = parse(concat!(
            "rule steady \"self == oldSelf\" message(\"must not change\") reason(FieldValueForbidden)",
            " field-path(.a) optional-old-self\n",
            "alias Word string length(..5) # short\n",
            "\n",
            "type Part atomic\n",
            "  a []Word required items(1..) map(x,y) merge(x) rule(steady) k8s>=1.34 jobset<0.12\n",
            "  b int32 default(1) enum(1,2) range(-1..3)\n",
            "  c {}object nullable preserve-unknown-fields embedded-resource properties(..3)\n",
        ))
        .unwrap();
        let part = &table.types["Part"];
        assert_eq!(part.facts.merge, Some(Merge::Atomic));
        let [a, b, c] = part.fields.as_slice() else { panic!("{part:?}") };
        assert_eq!(a.name, "a");
        assert!(a.required && !b.required);
        assert_eq!(a.row.shape, Shape::List(Box::new(Shape::Named("Word".into()))));
        assert_eq!(a.row.facts.items, Bounds { min: Some(1), max: None });
        assert_eq!(a.row.facts.merge, Some(Merge::Map(vec!["x".into(), "y".into()])));
        assert_eq!(a.row.facts.patch, Some(PatchMerge::Key("x".into())));
        assert_eq!(a.row.facts.rules, ["steady"]);
        let gates: Vec<_> = a.row.gates.iter().map(ToString::to_string).collect();
        assert_eq!(gates, ["k8s>=1.34.0", "jobset<0.12.0"]);
        assert_eq!(b.row.facts.default, Some(json!(1)));
        assert_eq!(b.row.facts.allowed, [json!(1), json!(2)]);
        assert_eq!(b.row.facts.range, Bounds { min: Some(-1), max: Some(3) });
        assert_eq!(c.row.shape, Shape::Map(Box::new(Shape::Scalar(Scalar::Object))));
        let flags = &c.row.facts;
        assert!(flags.nullable && flags.preserve_unknown_fields && flags.embedded_resource);
        assert_eq!(flags.properties, Bounds { min: None, max: Some(3) });
        assert_eq!(table.aliases["Word"][0].facts.length, Bounds { min: None, max: Some(5) });
        assert_eq!(
            table.rules["steady"],
            [Rule {
                expression: "self == oldSelf".into(),
                message: Some("must not change".into()),
                reason: Some("FieldValueForbidden".into()),
                field_path: Some(".a".into()),
                optional_old_self: true,
                gates: vec![],
            }]
        );
    }

    #[test]
    fn errors_name_line_and_token() {
        use Problem as P;
        for (text, line, problem, token) in [
            ("type A\n  a string enum(b", 2, P::Unclosed, "enum(b"),
            ("type A\n  \"a\" string", 2, P::Malformed, "a"),
            ("kind A", 1, P::UnknownDefinition, "kind"),
            ("type", 1, P::Incomplete, "type"),
            ("type A\n\n  a", 3, P::Incomplete, "a"),
            ("type A\n  a []", 2, P::Incomplete, ""),
            ("rule a", 1, P::Incomplete, "a"),
            ("rule a self", 1, P::Incomplete, "a"),
            ("  a string", 1, P::FieldOutsideType, "a"),
            ("type A\nalias B string\n  a string", 3, P::FieldOutsideType, "a"),
            ("type A\n  a string reqired", 2, P::UnknownFact, "reqired"),
            ("alias A string required", 1, P::UnknownFact, "required"),
            ("type A required", 1, P::UnknownFact, "required"),
            ("rule a \"self\" atomic", 1, P::UnknownFact, "atomic"),
            ("type A(b)", 1, P::WrongArguments, "A(b)"),
            ("type A\n  a string default(1,2)", 2, P::WrongArguments, "default(1,2)"),
            ("type A\n  a string enum", 2, P::WrongArguments, "enum"),
            ("type A\n  a string length(5)", 2, P::WrongArguments, "length(5)"),
            ("type A\n  a string length(..)", 2, P::WrongArguments, "length(..)"),
            ("type A\n  a string length(a..b)", 2, P::WrongArguments, "length(a..b)"),
            ("type A\n  a string nullable(true)", 2, P::WrongArguments, "nullable(true)"),
            ("type A\n  a []string map(1)", 2, P::WrongArguments, "map(1)"),
            ("rule a \"self\" reason", 1, P::WrongArguments, "reason"),
            ("type A\n  a string set", 2, P::Misplaced, "set"),
            ("type A\n  a {}string items(..1)", 2, P::Misplaced, "items(..1)"),
            ("type A\n  a {}string merge(name)", 2, P::Misplaced, "merge(name)"),
            ("type A\n  a []string merge(a,b)", 2, P::WrongArguments, "merge(a,b)"),
            ("type A\n  a []string granular", 2, P::Misplaced, "granular"),
            ("type A\n  a int32 atomic", 2, P::Misplaced, "atomic"),
            ("type A\n  a string k8s>1.2", 2, P::MalformedGate, "k8s>1.2"),
            ("type A\ntype A", 2, P::Duplicate, "A"),
            ("alias A string\ntype A", 2, P::Duplicate, "A"),
            ("type A\nalias A string", 2, P::Duplicate, "A"),
            ("alias A string k8s>=1\nalias A string", 2, P::Duplicate, "A"),
            ("rule a \"x\"\nrule a \"y\" k8s>=1", 2, P::Duplicate, "a"),
            ("type A\n  a string\n  a bool k8s>=1", 3, P::Duplicate, "a"),
            ("type A\n  a string k8s<1\n  a bool k8s<1", 3, P::Duplicate, "a"),
            ("type A\n  b string\n  a []B", 3, P::UnknownType, "B"),
            ("type A rule(r)", 1, P::UnknownRule, "r"),
            ("\ntype A\n  b B\ntype B\n  a {}A", 2, P::Recursive, "A"),
        ] {
            let expected = ParseError { file: "test".into(), line, problem, token: token.into() };
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn definitions_are_found_across_files_and_fields_are_not() {
        let one = ("one", "type A\n  b B");
        assert!(Table::parse([one, ("two", "alias B string")]).is_ok());
        let error = Table::parse([one, ("two", "  b string")]).unwrap_err();
        assert_eq!(error.to_string(), "failed to read two:1: field outside of a type: `b`");
    }
}
