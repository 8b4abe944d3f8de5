//! The controllers' side of admission: servers behind Services of ready pods, and the `caBundle` of whatever
//! points at them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::select_all;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::task::JoinSet;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_plan::object::{ObjectKey, Resource};

use super::tls::Certificates;
use super::{Error, kinds, serve};

/// A Service that something calls: namespace, name, port.
type ServiceRef = (String, String, u16);

pub(super) struct Webhooks {
    cluster: Cluster,
    address: IpAddr,
    certificates: Arc<Certificates>,
    tls: Arc<ServerConfig>,
    bundle: String,
    objects: HashMap<ObjectKey, (Resource, Value)>,
    listening: BTreeSet<u16>,
    servers: JoinSet<()>,
    writing: BTreeSet<ObjectKey>,
    writes: JoinSet<(ObjectKey, Result<Value, RequestError>)>,
}

impl Webhooks {
    pub(super) fn new(cluster: Cluster, address: IpAddr) -> Result<Self, Error> {
        let certificates = Arc::new(Certificates::new()?);
        Ok(Self {
            cluster,
            address,
            tls: certificates.server_config()?,
            bundle: STANDARD.encode(certificates.bundle()),
            certificates,
            objects: HashMap::new(),
            listening: BTreeSet::new(),
            servers: JoinSet::new(),
            writing: BTreeSet::new(),
            writes: JoinSet::new(),
        })
    }

    /// Works for ever.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let watched =
            [kinds::service(), kinds::endpoint_slice(), kinds::mutating(), kinds::validating(), kinds::crd()];
        let mut events = select_all(watched.map(|resource| {
            let events = self.cluster.watch(&resource, WatchParams::default());
            events.map(move |event| (resource.clone(), event)).boxed()
        }));
        loop {
            tokio::select! {
                Some((resource, event)) = events.next() => match event {
                    Ok(event) => self.observed(&resource, event),
                    Err(error) => tracing::warn!(%error, kind = resource.kind, "the watch goes on later"),
                },
                Some(Ok((key, answer))) = self.writes.join_next() => {
                    self.writing.remove(&key);
                    if let Err(error) = answer {
                        // Somebody else wrote in between: the watch brings what they wrote.
                        tracing::debug!(%error, %key, "no caBundle yet");
                    }
                }
            }
            self.act().await?;
        }
    }

    fn observed(&mut self, resource: &Resource, event: Event) {
        match event {
            Event::Restarted(objects) => {
                self.objects.retain(|_, (kind, _)| kind != resource);
                for object in objects.items {
                    self.put(resource, object);
                }
            }
            Event::Applied(object) => self.put(resource, object),
            Event::Deleted(object) => {
                if let Some(key) = ObjectKey::of(&object) {
                    self.objects.remove(&key);
                }
            }
            Event::Resumed => {}
        }
    }

    fn put(&mut self, resource: &Resource, object: Value) {
        if let Some(key) = ObjectKey::of(&object) {
            self.objects.insert(key, (resource.clone(), object));
        }
    }

    async fn act(&mut self) -> Result<(), Error> {
        let of_kind = |kind: &str| {
            let kind = kind.to_owned();
            self.objects.iter().filter(move |(key, _)| key.kind == kind).map(|(_, (_, object))| object)
        };
        let served = served(of_kind("Service"), &of_kind("EndpointSlice").collect::<Vec<_>>());

        let mut wanted: BTreeSet<u16> = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut fills = Vec::new();
        for (key, (resource, object)) in &self.objects {
            let mut lacking = Vec::new();
            for path in client_configs(object) {
                let Some(config) = object.pointer(&path) else { continue };
                let Some(service) = service_of(config) else { continue };
                let Some(port) = served.get(&service) else { continue };
                wanted.insert(*port);
                names.insert(format!("{}.{}.svc", service.1, service.0));
                if config["caBundle"].as_str() != Some(&self.bundle) {
                    lacking.push(path);
                }
            }
            // Objects are large, and nearly always filled: only those that are written are copied.
            if !lacking.is_empty() && !self.writing.contains(key) {
                let mut filled = object.clone();
                for path in lacking {
                    if let Some(config) = filled.pointer_mut(&path) {
                        config["caBundle"] = Value::String(self.bundle.clone());
                    }
                }
                fills.push((key.clone(), resource.clone(), filled));
            }
        }
        self.certificates.set_live(names);
        for port in wanted {
            if !self.listening.contains(&port) {
                // Before the caBundle says that somebody answers, somebody does.
                let listener = serve::listen(self.address, port).await?;
                self.servers.spawn(serve::serve(listener, Arc::clone(&self.tls)));
                self.listening.insert(port);
            }
        }
        for (key, resource, filled) in fills {
            self.writing.insert(key.clone());
            let cluster = self.cluster.clone();
            self.writes.spawn(async move {
                let answer = cluster.replace(&resource, &filled, CreateParams::default()).await;
                (key, answer)
            });
        }
        Ok(())
    }
}

/// The target port of every Service port that has a ready endpoint.
fn served<'a>(services: impl Iterator<Item = &'a Value>, slices: &[&'a Value]) -> BTreeMap<ServiceRef, u16> {
    let mut served = BTreeMap::new();
    for service in services {
        let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let own = slices.iter().filter(|slice| {
            slice["metadata"]["namespace"].as_str() == Some(&namespace)
                && slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str() == Some(&name)
                && has_ready_endpoint(slice)
        });
        let own: Vec<_> = own.collect();
        for port in array(service, "/spec/ports") {
            let target = own.iter().flat_map(|slice| array(slice, "/ports")).find_map(|row| {
                let same =
                    row["name"].as_str().unwrap_or_default() == port["name"].as_str().unwrap_or_default();
                same.then(|| number(&row["port"])).flatten()
            });
            if let (Some(number), Some(target)) = (number(&port["port"]), target) {
                served.insert((namespace.clone(), name.clone(), number), target);
            }
        }
    }
    served
}

fn has_ready_endpoint(slice: &Value) -> bool {
    array(slice, "/endpoints")
        .any(|endpoint| endpoint.pointer("/conditions/ready") == Some(&Value::Bool(true)))
}

fn array<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64()?.try_into().ok()
}

/// Where a webhook configuration or a CRD says whom to call, as JSON pointers.
fn client_configs(object: &Value) -> Vec<String> {
    match object["kind"].as_str() {
        Some("CustomResourceDefinition") => vec!["/spec/conversion/webhook/clientConfig".to_owned()],
        Some("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            let webhooks = object["webhooks"].as_array().map_or(0, Vec::len);
            (0..webhooks).map(|index| format!("/webhooks/{index}/clientConfig")).collect()
        }
        _ => Vec::new(),
    }
}

fn service_of(config: &Value) -> Option<ServiceRef> {
    let service = config.get("service")?;
    let text = |field: &str| Some(service.get(field)?.as_str()?.to_owned());
    Some((text("namespace")?, text("name")?, service.get("port").and_then(number).unwrap_or(443)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(ready: bool) -> Value {
        json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "n", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
            "ports": [{"name": "metrics", "port": 8443}, {"name": "webhook", "port": 9443}],
        })
    }

    #[test]
    fn a_service_is_served_while_it_has_a_ready_endpoint() {
        let service = json!({"metadata": {"namespace": "n", "name": "s"},
                             "spec": {"ports": [{"name": "webhook", "port": 443, "targetPort": "hook"}]}});
        let key = ("n".to_owned(), "s".to_owned(), 443);
        let (ready, starting) = (slice(true), slice(false));
        assert_eq!(served([&service].into_iter(), &[&ready]), BTreeMap::from([(key, 9443)]));
        assert_eq!(served([&service].into_iter(), &[&starting]), BTreeMap::new());
        assert_eq!(served([&service].into_iter(), &[]), BTreeMap::new());
    }

    #[test]
    fn all_references_to_a_service_are_found() {
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "/x"}});
        let crd = json!({"kind": "CustomResourceDefinition",
                         "spec": {"conversion": {"webhook": {"clientConfig": service}}}});
        let without =
            json!({"kind": "CustomResourceDefinition", "spec": {"conversion": {"strategy": "None"}}});
        let configuration = json!({"kind": "ValidatingWebhookConfiguration",
            "webhooks": [{"clientConfig": service}, {"clientConfig": {"url": "https://x"}}]});
        let expected = ("n".to_owned(), "s".to_owned(), 443);
        let found = |object: &Value| {
            let paths = client_configs(object);
            paths.iter().filter_map(|path| service_of(object.pointer(path)?)).collect::<Vec<_>>()
        };
        assert_eq!(found(&configuration), std::slice::from_ref(&expected));
        assert_eq!(found(&crd), [expected]);
        assert_eq!(found(&without), []);
        assert_eq!(found(&json!({"kind": "Service", "webhooks": [{"clientConfig": service}]})), []);
    }
}
