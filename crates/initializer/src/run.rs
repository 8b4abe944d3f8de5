//! One run: from the environment to files on the target, or to a cache.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, RetryConfig};
use reqwest::Client;
use url::Url;

use crate::config::{self, Config, Lookup, S3};
use crate::download::Download;
use crate::progress::{Display, Progress};
use crate::provision::{self, settings::Settings};
use crate::retry;
use crate::select::select;
use crate::source::assume::AssumedRole;
use crate::source::hub::Hub;
use crate::source::identity;
use crate::source::local::Local;
use crate::source::object::{Connector, Objects, Seen};
use crate::source::web::Web;
use crate::source::{Source, wire};
use crate::target::Target;
use crate::uri::{Kind, Location, Store};

/// The hub, where no other is named.
const HUB: &str = "https://huggingface.co";

/// The region that S3 is signed for where none is known.
const REGION: &str = "us-east-1";

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The files.
    #[error(transparent)]
    Fetch(#[from] crate::error::Error),
    /// The cache.
    #[error(transparent)]
    Provision(#[from] provision::Error),
}

/// Initializes what the environment asks for.
pub async fn run(kind: Kind, lookup: Lookup<'_>, is_terminal: bool) -> Result<(), Error> {
    let starting = match kind {
        Kind::Dataset => "Starting dataset initialization",
        Kind::Model => "Starting pre-trained model initialization",
    };
    tracing::info!("{starting}");
    let config = Config::read(kind, lookup)?;
    let progress = Arc::new(Progress::default());
    if let Location::Cache { schema, table } = &config.location {
        let settings = Settings::read(schema.clone(), table.clone(), lookup)?;
        let display = Display::start(progress, "provisioning", config.shown, false);
        let done = provision::run::provision(&settings).await;
        display.end(done.as_ref().err().map(|error| trainerd_causes::one_line(error)));
        return Ok(done?);
    }
    let display = Display::start(Arc::clone(&progress), "downloading", config.shown, is_terminal);
    let done = fetch(&config, lookup, progress).await;
    display.end(done.as_ref().err().map(|error| trainerd_causes::one_line(error)));
    Ok(done?)
}

async fn fetch(
    config: &Config,
    lookup: Lookup<'_>,
    progress: Arc<Progress>,
) -> Result<(), crate::error::Error> {
    let kind = config.kind.as_str();
    let is_hub = matches!(config.location, Location::Hub { .. });
    let place = match &config.location {
        Location::Hub { repository, .. } => repository,
        _ => &config.uri,
    };
    tracing::info!("Downloading {kind}: {place}");
    let source = source(config, lookup).await?;
    let listing = source.list().await?;
    if let Some(commit) = &listing.commit {
        tracing::info!("the commit is {commit}");
    }
    let files = select(listing.files, &config.filter, config.kind, is_hub, &config.uri)?;
    let bytes: u64 = files.iter().filter_map(|file| file.size).sum();
    tracing::info!("{} files, {bytes} bytes", files.len());
    let target = Arc::new(Target::open(&config.target).await?);
    let download = Download::new(source, listing.commit, target, config.limits, progress);
    download.run(files).await?;
    match (is_hub, config.kind) {
        (true, Kind::Dataset) => tracing::info!("Dataset has been downloaded"),
        (true, Kind::Model) => tracing::info!("Model has been downloaded"),
        (false, _) => tracing::info!("Files have been downloaded"),
    }
    Ok(())
}

async fn source(config: &Config, lookup: Lookup<'_>) -> Result<Arc<dyn Source>, crate::error::Error> {
    let unusable =
        |source: crate::error::Cause| crate::error::Error::Source { uri: config.uri.clone(), source };
    let client = wire::client().map_err(|error| unusable(Box::new(error)))?;
    let patience = config.limits.patience;
    Ok(match &config.location {
        Location::Hub { repository, revision } => Arc::new(Hub::new(
            client,
            config.hub.endpoint.as_deref().unwrap_or(HUB),
            config.kind,
            repository.clone(),
            revision.clone(),
            config.hub.token.clone(),
            patience,
        )),
        Location::Http { url, sha256, name } => {
            Arc::new(Web::new(client, url.clone(), name.clone(), sha256.clone(), patience))
        }
        Location::File { path } => Arc::new(Local::new(path.clone())),
        Location::Store { store, url, prefix } => {
            let seen = Arc::new(Seen::default());
            let connector = Connector::new(client.clone(), Arc::clone(&seen));
            let opened = match store {
                Store::S3 => {
                    let region = region(config, url, &client, lookup).await?;
                    s3(config, url, &region, client, connector, lookup)
                }
                Store::Gcs => gcs(url, connector),
                Store::Azure => azure(url, connector),
            };
            let opened = opened.map_err(|error| unusable(Box::new(error)))?;
            let is_s3 = *store == Store::S3;
            Arc::new(Objects::new(opened, seen, config.uri.clone(), prefix.clone(), is_s3, patience))
        }
        // A cache has no files; it never comes here.
        Location::Cache { .. } => return Err(unusable(wire::cause("a cache has no files"))),
    })
}

/// Attempts are counted by us, over connections that are cut as over answers.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Scheme, host and container; keys are no part of it.
fn host(url: &Url) -> String {
    url[..url::Position::BeforePath].to_owned()
}

fn gcs(url: &Url, connector: Connector) -> object_store::Result<Arc<dyn ObjectStore>> {
    let builder = GoogleCloudStorageBuilder::from_env().with_url(host(url));
    Ok(Arc::new(builder.with_retry(once()).with_http_connector(connector).build()?))
}

fn azure(url: &Url, connector: Connector) -> object_store::Result<Arc<dyn ObjectStore>> {
    let builder = MicrosoftAzureBuilder::from_env().with_url(host(url));
    Ok(Arc::new(builder.with_retry(once()).with_http_connector(connector).build()?))
}

/// Where S3 is asked for, if not at AWS.
fn endpoint(s3: &S3, lookup: Lookup<'_>) -> Option<String> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    s3.endpoint.clone().or_else(|| set("AWS_ENDPOINT_URL")).or_else(|| set("AWS_ENDPOINT"))
}

fn s3(
    config: &Config,
    url: &Url,
    region: &str,
    client: Client,
    connector: Connector,
    lookup: Lookup<'_>,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let (s3, patience) = (&config.s3, config.limits.patience);
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let endpoint = endpoint(s3, lookup);
    let builder = || {
        let builder = AmazonS3Builder::from_env().with_url(host(url)).with_region(region).with_retry(once());
        match &endpoint {
            Some(endpoint) => {
                builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"))
            }
            None => builder,
        }
    };
    let connector = Arc::new(connector);
    let keyed = |mut builder: AmazonS3Builder| {
        if let Some((id, secret)) = &s3.key {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = &s3.session_token {
            builder = builder.with_token(token);
        }
        builder
    };
    let shared = Shared(Arc::clone(&connector));
    let base = keyed(builder()).with_http_connector(shared.clone());
    let base = match identity::of_machine(&base)? {
        Some(credentials) => base.with_credentials(credentials),
        None => base,
    };
    let base = base.build()?;
    let Some(role) = &s3.role else { return Ok(Arc::new(base)) };
    let service =
        set("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com"));
    let service = Url::parse(&service)
        .map_err(|error| object_store::Error::Generic { store: "STS", source: Box::new(error) })?;
    let base = Arc::clone(base.credentials());
    let role = AssumedRole::new(client, service, region.to_owned(), role.clone(), base, patience);
    let assumed = builder().with_credentials(Arc::new(role)).with_http_connector(shared).build()?;
    Ok(Arc::new(assumed))
}

/// One connector for two stores.
#[derive(Clone, Debug)]
struct Shared(Arc<Connector>);

impl object_store::client::HttpConnector for Shared {
    fn connect(
        &self,
        options: &object_store::ClientOptions,
    ) -> object_store::Result<object_store::client::HttpClient> {
        object_store::client::HttpConnector::connect(&*self.0, options)
    }
}

/// The region of a bucket, where nobody names one: the service tells it to anybody, also with a refusal.
async fn region(
    config: &Config,
    url: &Url,
    client: &Client,
    lookup: Lookup<'_>,
) -> Result<String, crate::error::Error> {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let given = config.s3.region.clone().or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
    if let Some(region) = given {
        return Ok(region);
    }
    let bucket = url.host_str().unwrap_or_default();
    let answer = match endpoint(&config.s3, lookup) {
        // A store that is not there yet is waited for: it may have a region that is not the default.
        Some(endpoint) => {
            let address = format!("{}/{bucket}", endpoint.trim_end_matches('/'));
            let ask = || async {
                match client.head(&address).send().await {
                    // The store says better what is wrong with its endpoint.
                    Err(error) if error.is_builder() => Ok(None),
                    answer => answer.map(Some).map_err(|error| wire::interrupted(&config.uri, error)),
                }
            };
            retry::answered(&config.uri, config.limits.patience, ask).await?
        }
        // In a network without that name, the default may be right.
        None => client.head(format!("https://{bucket}.s3.amazonaws.com")).send().await.ok(),
    };
    let region =
        answer.as_ref().and_then(|answer| answer.headers().get("x-amz-bucket-region")?.to_str().ok());
    Ok(region.unwrap_or(REGION).to_owned())
}
