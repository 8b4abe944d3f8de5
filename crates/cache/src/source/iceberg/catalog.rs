//! Catalogs: what tells where the metadata of a table is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iceberg::io::FileIO;
use iceberg::table::StaticTable;
use iceberg::{Catalog as _, CatalogBuilder as _, ErrorKind, TableIdent};
use iceberg_catalog_rest::RestCatalogBuilder;

use super::glue;
use super::storage::Factory;
use crate::config::Table;
use crate::source::{Error, Kind};
use crate::store::{Stores, shown_text};

/// The name of the catalog in the library's errors.
const NAME: &str = "rest";

/// The table as its metadata file or its catalog has it now.
pub(super) async fn table(
    at: &Table,
    identifier: TableIdent,
    stores: &Stores,
    files: FileIO,
    timeout: Duration,
) -> Result<StaticTable, Error> {
    match at {
        Table::File(metadata) => {
            StaticTable::from_metadata_file(metadata, identifier, files).await.map_err(super::failed)
        }
        Table::Rest { uri, warehouse, token } => {
            let mut properties = HashMap::from([("uri".to_owned(), uri.clone())]);
            properties.extend(warehouse.clone().map(|warehouse| ("warehouse".to_owned(), warehouse)));
            if let Some(path) = token {
                properties.insert("token".to_owned(), read_token(path)?);
            }
            rest(uri, properties, identifier, stores, files, timeout).await
        }
        Table::Glue { endpoint, account } => {
            let metadata = glue::metadata(endpoint, account.as_deref(), &identifier, stores, timeout).await?;
            StaticTable::from_metadata_file(&metadata, identifier, files).await.map_err(super::failed)
        }
    }
}

/// The file is read each time: tokens change.
fn read_token(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Token { path: path.display().to_string(), source })?;
    Ok(text.trim().to_owned())
}

async fn rest(
    uri: &str,
    properties: HashMap<String, String>,
    identifier: TableIdent,
    stores: &Stores,
    files: FileIO,
    timeout: Duration,
) -> Result<StaticTable, Error> {
    let failed = |source: iceberg::Error| Error::Catalog {
        uri: shown_text(uri),
        kind: kind(&source),
        source: source.into(),
    };
    let client = reqwest::Client::builder().timeout(timeout).build();
    let client = client.map_err(|source| {
        failed(iceberg::Error::new(ErrorKind::Unexpected, "failed to set up the client").with_source(source))
    })?;
    let builder = RestCatalogBuilder::default().with_client(client);
    // The library makes tables with files of this factory; ours are the same.
    let builder = builder.with_storage_factory(Arc::new(Factory::new(stores.clone())));
    let catalog = builder.load(NAME, properties).await.map_err(&failed)?;
    let table = catalog.load_table(&identifier).await.map_err(&failed)?;
    let metadata = table.metadata().clone();
    StaticTable::from_metadata(metadata, identifier, files).await.map_err(failed)
}

/// Whether asking again may help. The library has the status of an unexpected answer in its text only.
fn kind(error: &iceberg::Error) -> Kind {
    if matches!(error.kind(), ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound) {
        return Kind::Invalid;
    }
    let text = error.to_string();
    let status = text.split_once("status: ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    match status {
        Some(401 | 403) => Kind::Denied,
        Some(status) if status == 429 || status >= 500 => Kind::Unreachable,
        Some(_) => Kind::Invalid,
        // No answer, or one that was cut off.
        None => Kind::Unreachable,
    }
}
