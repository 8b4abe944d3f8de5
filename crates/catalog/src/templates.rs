//! Tera, made strict: a variable that is not there is an error wherever it stands.
//!
//! Tera refuses to print what is undefined, but takes it for false in a condition: a misspelled name would
//! silently drop a part of a manifest. So every path that a template names is looked up before it is rendered.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tera::{Context, ErrorKind, Tera};
use thiserror::Error;

/// Why templates render nothing.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// They cannot be parsed.
    #[error("failed to parse the templates")]
    Parse {
        /// What is wrong, with file and line.
        source: tera::Error,
    },
    /// One names a variable that it is not given.
    #[error("unknown variable {variable} in {file}, line {line}")]
    UnknownVariable {
        /// The template, from the root of the repository.
        file: String,
        /// The line, counted from one.
        line: usize,
        /// The variable, with its fields: `images.manager`.
        variable: String,
    },
    /// One cannot be rendered.
    #[error("failed to render {file}, line {line}")]
    Render {
        /// The template, from the root of the repository.
        file: String,
        /// The line, counted from one.
        line: usize,
        /// What is wrong there.
        source: tera::Error,
    },
}

/// Parsed templates by path below `templates/`.
#[derive(Clone)]
pub(crate) struct Templates {
    tera: Tera,
    texts: BTreeMap<String, String>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.texts.keys()).finish()
    }
}

impl Templates {
    pub(crate) fn new<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, TemplateError> {
        let texts: BTreeMap<String, String> =
            files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
        let mut tera = Tera::default();
        tera.autoescape_on(Vec::<&str>::new());
        tera.add_raw_templates(texts.iter().map(|(path, text)| (path.as_str(), text.as_str())))
            .map_err(|source| TemplateError::Parse { source })?;
        Ok(Self { tera, texts })
    }

    /// Renders one template with the files it includes.
    ///
    /// # Errors
    /// [`TemplateError::UnknownVariable`] for a name, or a field of a name, that `variables` does not have.
    pub(crate) fn render(&self, path: &str, variables: &Map<String, Value>) -> Result<String, TemplateError> {
        let failed = |source: tera::Error| {
            let (file, line) = match source.kind() {
                ErrorKind::RenderingError(report) | ErrorKind::SyntaxError(report) => {
                    (report.filename(), report.span().start_line)
                }
                _ => (path, 1),
            };
            TemplateError::Render { file: format!("templates/{file}"), line, source }
        };
        let roots = self.tera.get_template_variables(path).map_err(failed)?;
        self.check(path, variables, &|root| roots.contains(root))?;
        let mut context = Context::new();
        for (name, value) in variables {
            context.insert(name.clone(), value);
        }
        self.tera.render(path, &context).map_err(failed)
    }

    /// Looks up every path of a file and of those it includes. `free` tells variables from the template's own.
    fn check(
        &self,
        path: &str,
        variables: &Map<String, Value>,
        free: &dyn Fn(&str) -> bool,
    ) -> Result<(), TemplateError> {
        let Some(text) = self.texts.get(path) else { return Ok(()) };
        for (line, token) in tokens(text) {
            match token {
                Token::Path(variable) => {
                    let mut parts = variable.split('.');
                    let root = parts.next().unwrap_or_default();
                    if !free(root) {
                        continue;
                    }
                    let found = parts
                        .try_fold(variables.get(root), |value, field| value.map(|value| value.get(field)));
                    if !matches!(found, Some(Some(_))) {
                        let file = format!("templates/{path}");
                        return Err(TemplateError::UnknownVariable {
                            file,
                            line,
                            variable: variable.to_owned(),
                        });
                    }
                }
                Token::Text(included) if included != path && self.texts.contains_key(included) => {
                    self.check(included, variables, free)?;
                }
                Token::Text(_) => {}
            }
        }
        Ok(())
    }
}

/// What stands in a tag: a name with its fields, or a quoted text.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Path(&'a str),
    Text(&'a str),
}

/// The paths and texts in the tags of a template, with their lines.
fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|brace| at + brace) {
        let close = match text.as_bytes().get(start + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                at = start + 1;
                continue;
            }
        };
        let end = text[start + 2..].find(close).map_or(text.len(), |end| start + 2 + end);
        if close != "#}" {
            tokens_of_tag(text, start + 2, end, &mut found);
        }
        at = end;
    }
    found
}

fn tokens_of_tag<'a>(text: &'a str, start: usize, end: usize, found: &mut Vec<(usize, Token<'a>)>) {
    let bytes = text.as_bytes();
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let mut at = start;
    while at < end {
        let line = || text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1;
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                let close = text[at + 1..end].find(char::from(quote)).map_or(end, |close| at + 1 + close);
                found.push((line(), Token::Text(&text[at + 1..close])));
                at = close + 1;
            }
            byte if in_path(byte) => {
                let length = text[at..end].bytes().take_while(|byte| in_path(*byte)).count();
                if byte.is_ascii_alphabetic() || byte == b'_' {
                    found.push((line(), Token::Path(&text[at..at + length])));
                }
                at += length;
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(text: &str) -> Result<String, TemplateError> {
        let part = "{% if part.there %}\n{{ part.gone }}{% endif %}";
        let templates = Templates::new([("a/main.yaml", text), ("a/part.yaml", part)])?;
        let variables = json!({"name": "n", "images": {"manager": "m"}, "on": true, "part": {"there": true}});
        templates.render("a/main.yaml", variables.as_object().unwrap())
    }

    #[test]
    fn unknown_variables_are_named_with_file_and_line() {
        for (text, file, line, variable) in [
            ("a: {{ nmae }}", "main", 1, "nmae"),
            ("a: {{ name }}\nb: {{ images.managre }}", "main", 2, "images.managre"),
            ("{% if on %}x{% endif %}\n\n{% if no %}y{% endif %}", "main", 3, "no"),
            ("{% if images.other %}y{% endif %}", "main", 1, "images.other"),
            ("{% if not images.other %}y{% endif %}", "main", 1, "images.other"),
            ("{% if\non and\nother\n%}y{% endif %}", "main", 3, "other"),
            ("{{ name.field }}", "main", 1, "name.field"),
            ("x\n{% include \"a/part.yaml\" %}", "part", 2, "part.gone"),
        ] {
            match render(text) {
                Err(TemplateError::UnknownVariable { file: f, line: l, variable: v }) => {
                    let expected = (format!("templates/a/{file}.yaml"), line, variable.to_owned());
                    assert_eq!((f, l, v), expected, "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn local_variables_strings_and_comments_are_not_unknown() {
        let text = "{# unknown #}{% set mine = \"unknown {x}\" -%}{% for each in [1, 2] %}{{ each }}{% endfor %}{{ mine }}{{ name }}";
        assert_eq!(render(text).unwrap(), "12unknown {x}n");
    }

    #[test]
    fn parse_and_render_errors_are_distinct() {
        assert!(matches!(render("{{ name "), Err(TemplateError::Parse { .. })));
        assert!(matches!(render("{{ name | no_such_filter }}"), Err(TemplateError::Parse { .. })));
        assert!(matches!(render("\n{{ name / 2 }}"), Err(TemplateError::Render { line: 2, .. })));
    }
}
