//! What a name of the table stands for at given levels.

use crate::gate::{Gate, Levels};
use crate::openapi::SchemaError;
use crate::table::{Facts, Field, PatchMerge, Row, Scalar, Shape, Table, Type};

/// The type of the metadata of every object.
const METADATA: &str = "ObjectMeta";

/// Of the lines that share a name, the one that holds at the levels, if any does.
pub(crate) fn choose<'t, T>(
    name: &str,
    all: &'t [T],
    gates: impl Fn(&'t T) -> &'t [Gate],
    levels: &Levels,
) -> Result<Option<&'t T>, SchemaError> {
    let mut chosen = None;
    for one in all {
        if holds(name, gates(one), levels)? && chosen.replace(one).is_some() {
            return Err(SchemaError::Ambiguous(name.to_owned()));
        }
    }
    Ok(chosen)
}

/// Whether all gates of a line hold at the levels.
pub(crate) fn holds(of: &str, gates: &[Gate], levels: &Levels) -> Result<bool, SchemaError> {
    for gate in gates {
        let holds = gate.holds(levels);
        if !holds.map_err(|source| SchemaError::UnknownAxis { of: of.to_owned(), source })? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A table at given levels.
#[derive(Clone, Copy)]
pub(crate) struct Resolver<'a> {
    pub(crate) table: &'a Table,
    pub(crate) levels: &'a Levels,
}

/// What a value may be.
pub(crate) struct Node<'a> {
    pub(crate) kind: Kind<'a>,
    /// What is known of it: by its field first, then by the aliases and the type that it names.
    pub(crate) facts: Vec<&'a Facts>,
}

/// The form of a value.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// A value without known parts.
    Scalar(Scalar),
    /// An object with known fields.
    Object { name: &'a str, of: &'a Type },
    /// A list of these.
    List(&'a Shape),
    /// A map from string to these.
    Map(&'a Shape),
}

impl<'a> Resolver<'a> {
    /// The type of that name.
    pub(crate) fn root(&self, name: &str) -> Result<Node<'a>, SchemaError> {
        let found = self.table.types.get_key_value(name);
        let (name, of) = found.ok_or_else(|| SchemaError::UnknownType(name.to_owned()))?;
        Ok(Node { kind: Kind::Object { name, of }, facts: vec![&of.facts] })
    }

    /// What a shape stands for.
    pub(crate) fn shape(&self, shape: &'a Shape) -> Result<Node<'a>, SchemaError> {
        let kind = match shape {
            Shape::Scalar(scalar) => Kind::Scalar(*scalar),
            Shape::List(inner) => Kind::List(inner),
            Shape::Map(inner) => Kind::Map(inner),
            Shape::Named(name) if self.table.types.contains_key(name) => return self.root(name),
            Shape::Named(name) => {
                let rows = self.table.aliases.get(name).map(Vec::as_slice).unwrap_or_default();
                let row = choose(name, rows, |row| &row.gates, self.levels)?;
                return self.row(row.ok_or_else(|| SchemaError::Unavailable(name.clone()))?);
            }
        };
        Ok(Node { kind, facts: Vec::new() })
    }

    /// What a line says of a value.
    pub(crate) fn row(&self, row: &'a Row) -> Result<Node<'a>, SchemaError> {
        let mut node = self.shape(&row.shape)?;
        node.facts.insert(0, &row.facts);
        Ok(node)
    }

    /// The fields that a type has at these levels.
    pub(crate) fn fields(&self, name: &str, of: &'a Type) -> Result<Vec<&'a Field>, SchemaError> {
        let mut fields: Vec<&Field> = Vec::new();
        for field in &of.fields {
            if !holds(name, &field.row.gates, self.levels)? {
                continue;
            }
            if fields.iter().any(|other| other.name == field.name) {
                return Err(SchemaError::Ambiguous(format!("{name}.{}", field.name)));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    /// The field of that name which a type has at these levels.
    pub(crate) fn field(
        &self,
        name: &str,
        of: &'a Type,
        field: &str,
    ) -> Result<Option<&'a Field>, SchemaError> {
        let mut chosen = None;
        for one in of.fields.iter().filter(|one| one.name == field) {
            if holds(name, &one.row.gates, self.levels)? && chosen.replace(one).is_some() {
                return Err(SchemaError::Ambiguous(format!("{name}.{field}")));
            }
        }
        Ok(chosen)
    }

    /// What a member of an object or map may be; `None` where nothing is known of it.
    ///
    /// CRDs do not describe the `metadata` of their objects, which the API server knows by itself: it is an
    /// `ObjectMeta` where the table has one.
    pub(crate) fn member(&self, node: &Node<'a>, key: &str) -> Result<Option<Node<'a>>, SchemaError> {
        match node.kind {
            Kind::Object { name, of } => {
                let Some(field) = self.field(name, of, key)? else { return Ok(None) };
                let bare = field.row.shape == Shape::Scalar(Scalar::Object);
                if key == "metadata" && bare && self.table.types.contains_key(METADATA) {
                    return self.root(METADATA).map(Some);
                }
                self.row(&field.row).map(Some)
            }
            Kind::Map(inner) => self.shape(inner).map(Some),
            Kind::Scalar(_) | Kind::List(_) => Ok(None),
        }
    }
}

impl<'a> Node<'a> {
    /// How a strategic merge patch merges the list that this is.
    pub(crate) fn patch(&self) -> Option<&'a PatchMerge> {
        self.facts.iter().find_map(|facts| facts.patch.as_ref())
    }
}
