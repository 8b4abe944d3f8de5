//! Where an Iceberg table's metadata is told: its file, or a catalog.

use std::path::PathBuf;

use super::{Error, Lookup, choice};

/// Where the metadata of a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// In this file.
    File(String),
    /// A REST catalog tells.
    Rest {
        /// Of the catalog, without `/v1`.
        uri: String,
        /// Which of its warehouses; its default where absent.
        warehouse: Option<String>,
        /// File of the token that the catalog asks for.
        token: Option<PathBuf>,
    },
    /// Glue tells.
    Glue {
        /// Of the service in a region.
        endpoint: String,
        /// The account whose catalog it is; the caller's where absent.
        account: Option<String>,
    },
}

/// Kinds of catalogs.
#[derive(Clone, Copy)]
enum Kind {
    Rest,
    Glue,
}

impl Table {
    /// Reads `METADATA_LOC`, else the variables of the catalog.
    pub(super) fn read(lookup: Lookup<'_>) -> Result<Self, Error> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        if let Some(file) = set("METADATA_LOC") {
            return Ok(Self::File(file));
        }
        let uri = set("CATALOG_URI").ok_or(Error::Missing("CATALOG_URI"))?;
        // Whatever the catalog is asked is written behind it.
        let is_url = url::Url::parse(&uri).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
        });
        if !is_url {
            let (name, value) = ("CATALOG_URI", crate::store::redacted(&uri));
            return Err(Error::Value { name, value, allowed: "the http or https URL of a catalog" });
        }
        let uri = uri.trim_end_matches('/').to_owned();
        let warehouse = set("CATALOG_WAREHOUSE");
        let kinds = [("rest", Kind::Rest), ("glue", Kind::Glue)];
        Ok(match choice(lookup, "CATALOG_TYPE", "rest or glue", &kinds)? {
            Kind::Rest => Self::Rest { uri, warehouse, token: set("CATALOG_TOKEN_FILE").map(PathBuf::from) },
            Kind::Glue => Self::Glue { endpoint: uri, account: warehouse },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Table, String> {
        let lookup = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        Table::read(&lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn a_catalog_is_one_of_two_kinds_at_a_url() {
        let uri = ("CATALOG_URI", "https://c.example/api/");
        let rest = Table::Rest { uri: "https://c.example/api".into(), warehouse: None, token: None };
        assert_eq!(read(&[uri]), Ok(rest));
        assert_eq!(
            read(&[uri, ("CATALOG_TYPE", "glue"), ("CATALOG_WAREHOUSE", "12")]),
            Ok(Table::Glue { endpoint: "https://c.example/api".into(), account: Some("12".into()) })
        );
        assert_eq!(
            read(&[uri, ("CATALOG_TYPE", "hive")]),
            Err("invalid value \"hive\" of CATALOG_TYPE; must be rest or glue".into())
        );
        for bad in ["thrift://h", "c.example", "https://", "https://user:secret@h/?token=secret"] {
            let refused = read(&[("CATALOG_URI", bad)]).unwrap_err();
            assert!(refused.ends_with("must be the http or https URL of a catalog"), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
