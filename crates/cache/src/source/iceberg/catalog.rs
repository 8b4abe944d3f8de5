//! Catalogs: what tells where the metadata of a table is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use iceberg::io::{FileIO, FileIOBuilder};
use iceberg::table::StaticTable;
use iceberg::{Catalog as _, CatalogBuilder as _, ErrorKind, TableIdent};
use iceberg_catalog_rest::RestCatalogBuilder;

use super::storage::Factory;
use super::{glue, vended};
use crate::config::Table;
use crate::source::{Error, Kind};
use crate::store::{Stores, redacted};

/// The name of the catalog in the library's errors.
const NAME: &str = "rest";

/// Asks for credentials of the table's files, where the catalog hands some out.
const DELEGATION: (&str, &str) = ("header.x-iceberg-access-delegation", "vended-credentials");

/// The table as its metadata file or its catalog has it now, and the stores that its files are read from.
pub(super) async fn table(
    at: &Table,
    identifier: TableIdent,
    stores: &Stores,
    timeout: Duration,
) -> Result<(StaticTable, Stores), Error> {
    match at {
        Table::File(metadata) => from_file(metadata, identifier, stores).await,
        Table::Rest { uri, warehouse, token } => {
            let (uri, warehouse, token) = (uri.clone(), warehouse.clone(), token.clone());
            Rest { uri, warehouse, token, identifier, stores: stores.clone(), timeout }.open().await
        }
        Table::Glue { endpoint, account } => {
            let metadata = glue::metadata(endpoint, account.as_deref(), &identifier, stores, timeout).await?;
            from_file(&metadata, identifier, stores).await
        }
    }
}

async fn from_file(
    metadata: &str,
    identifier: TableIdent,
    stores: &Stores,
) -> Result<(StaticTable, Stores), Error> {
    let table = StaticTable::from_metadata_file(metadata, identifier, files(stores)).await;
    Ok((table.map_err(super::failed)?, stores.clone()))
}

/// The files of these stores, as the library reads them.
fn files(stores: &Stores) -> FileIO {
    FileIOBuilder::new(Arc::new(Factory::new(stores.clone()))).build()
}

/// The file is read each time: tokens change.
fn read_token(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Token { path: path.display().to_string(), source })?;
    Ok(text.trim().to_owned())
}

/// A table of a REST catalog.
#[derive(Clone)]
struct Rest {
    uri: String,
    warehouse: Option<String>,
    token: Option<PathBuf>,
    identifier: TableIdent,
    stores: Stores,
    timeout: Duration,
}

impl Rest {
    fn failed(&self, source: iceberg::Error) -> Error {
        Error::Catalog { uri: redacted(&self.uri), kind: kind(&source), source: source.into() }
    }

    async fn open(self) -> Result<(StaticTable, Stores), Error> {
        let table = self.load().await?;
        let again = self.clone();
        let ask: vended::Ask = Arc::new(move || {
            let again = again.clone();
            async move { Ok::<_, Error>(again.load().await?.file_io().config().props().clone()) }.boxed()
        });
        let stores = vended::stores(&self.stores, table.file_io().config().props(), ask);
        let (metadata, identifier) = (table.metadata().clone(), self.identifier.clone());
        let opened = StaticTable::from_metadata(metadata, identifier, files(&stores)).await;
        Ok((opened.map_err(|source| self.failed(source))?, stores))
    }

    async fn load(&self) -> Result<iceberg::table::Table, Error> {
        let mut properties = HashMap::from([("uri".to_owned(), self.uri.clone())]);
        properties.extend(self.warehouse.clone().map(|warehouse| ("warehouse".to_owned(), warehouse)));
        if let Some(path) = &self.token {
            properties.insert("token".to_owned(), read_token(path)?);
        }
        properties.insert(DELEGATION.0.to_owned(), DELEGATION.1.to_owned());
        let client = reqwest::Client::builder().timeout(self.timeout).build();
        let client = client.map_err(|source| {
            let error = iceberg::Error::new(ErrorKind::Unexpected, "failed to set up the client");
            self.failed(error.with_source(source))
        })?;
        let builder = RestCatalogBuilder::default().with_client(client);
        // The library makes tables with files of a factory; what is read is read by ours.
        let builder = builder.with_storage_factory(Arc::new(Factory::new(self.stores.clone())));
        let catalog = builder.load(NAME, properties).await.map_err(|source| self.failed(source))?;
        catalog.load_table(&self.identifier).await.map_err(|source| self.failed(source))
    }
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
