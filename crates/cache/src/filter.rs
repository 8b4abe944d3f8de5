//! `FILTER`: which rows of a source belong to the dataset.
//!
//! `column op literal`, `column [not] in (…)`, `column is [not] null`, `and`, `or`, `not` and parentheses; literals
//! are numbers, `'text'`, `true`, `false`, `date '…'` and `timestamp '…'`. Logic has three values, and what is
//! unknown is not selected. A column in double quotes may have any name.

mod bounds;
mod parse;
mod select;

pub use bounds::Bounds;
pub use select::Selector;
pub(crate) use select::scalar;

/// A filter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the grammar.
    #[error("the filter is wrong at letter {at}: expected {expected}")]
    Syntax {
        /// Number of the letter, from 1.
        at: usize,
        /// What would do there.
        expected: &'static str,
    },
    /// Too many parentheses in each other.
    #[error("the filter has more than {0} parentheses or nots in each other")]
    Depth(usize),
    /// A literal that its column's type does not have.
    #[error("the column {column:?} is {of}, and {literal} is no such value")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        of: String,
        /// The literal, as it was given.
        literal: String,
    },
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// True of the values that this one is false of.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// As it was written: what it is depends on the column.
    Number(String),
    /// Text.
    Text(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A day.
    Date(String),
    /// A moment.
    Timestamp(String),
}

impl std::fmt::Display for Literal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(text) => formatter.write_str(text),
            Self::Text(text) => write!(formatter, "'{}'", text.replace('\'', "''")),
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Date(text) => write!(formatter, "date '{text}'"),
            Self::Timestamp(text) => write!(formatter, "timestamp '{text}'"),
        }
    }
}

/// A filter as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Compares a column with a literal.
    Compare(String, Comparison, Literal),
    /// Whether a column has one of these values.
    In(String, Vec<Literal>),
    /// Whether a column has no value.
    IsNull(String),
    /// The opposite; of what is unknown, unknown.
    Not(Box<Filter>),
    /// Both.
    And(Box<Filter>, Box<Filter>),
    /// One of the two.
    Or(Box<Filter>, Box<Filter>),
}

impl Filter {
    /// Reads a filter.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text)
    }

    /// The columns that it looks at, each once, in the order of their names.
    pub fn columns(&self) -> std::collections::BTreeSet<&str> {
        match self {
            Self::Compare(column, ..) | Self::In(column, _) | Self::IsNull(column) => {
                std::iter::once(column.as_str()).collect()
            }
            Self::Not(inner) => inner.columns(),
            Self::And(one, other) | Self::Or(one, other) => {
                one.columns().union(&other.columns()).copied().collect()
            }
        }
    }
}
