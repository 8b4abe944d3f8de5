//! From options and versions to objects.

mod error;

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use trainerd_api::crds::{self, CrdChannel, ServiceRef};
use trainerd_plan::desired::{self, Desired, DesiredObject, Installation, Naming};
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::plan::Probe;

use crate::catalog::Catalog;
use crate::component::{Component, Dangling, KUBERNETES};
use crate::images::reference;
use crate::names::Names;
use crate::options::{Options, Reconciler, is_label};
use crate::patches::Patch;
use crate::resolve::Resolution;
use crate::{pods, resource};

pub use self::error::{ObjectFault, RenderError};

/// Seconds between the moment at which a pod that serves webhooks is taken out of the endpoints and SIGTERM.
///
/// The routes to it go within about two seconds (kube-proxy syncs once a second); the rest is for pods that nothing
/// was started in the place of yet, because somebody scaled or deleted their Deployment: by upstream's readiness probes
/// a controller is ready 16 to 26 seconds after its pod was made, and until then the old one answers.
const PRE_STOP_SECONDS: u32 = 30;
/// The first Kubernetes that serves `lifecycle.preStop.sleep` (KEP-3960, beta).
const PRE_STOP_SLEEP: Version = Version::new(1, 30, 0);

/// The process that takes the place of the trainer's controller.
const RECONCILER: &str = "reconciler";

/// Longest name of a namespace (RFC 1123 label).
const MAX_LABEL: usize = 63;

impl Catalog {
    /// Renders every component of a resolution: the same input gives the same bytes, objects sorted by key.
    ///
    /// # Errors
    /// [`RenderError::Namespace`] for an installation that cannot be; everything else is a fault of the
    /// catalog: a template that names an unknown variable, an object that breaks a rule, an object twice.
    pub fn render(
        &self,
        options: &Options,
        resolution: &Resolution,
        installation: &Installation,
    ) -> Result<Desired, RenderError> {
        self.render_as(options, resolution, installation, Naming::Upstream)
    }

    /// The same by other names: [`Catalog::render`] calls objects as upstream does.
    ///
    /// # Errors
    /// Those of [`Catalog::render`].
    pub fn render_as(
        &self,
        options: &Options,
        resolution: &Resolution,
        installation: &Installation,
        naming: Naming,
    ) -> Result<Desired, RenderError> {
        // The daemon is rendered elsewhere; what is wrong with its patches shall not wait until then.
        if options.patches.iter().any(Patch::is_for_daemon) {
            self.render_daemon(options, installation)?;
        }
        let names = Names::of(naming, installation);
        self.render_for(options, resolution, installation, installation, &names)
    }

    /// The same, where templates are told of another installation than the one that is rendered.
    pub(crate) fn render_for(
        &self,
        options: &Options,
        resolution: &Resolution,
        installation: &Installation,
        keeps: &Installation,
        names: &Names,
    ) -> Result<Desired, RenderError> {
        let namespace = &installation.namespace;
        if namespace.len() > MAX_LABEL || !is_label(namespace) {
            return Err(RenderError::Namespace { namespace: namespace.clone() });
        }
        let mut components = BTreeMap::new();
        let mut renders = Vec::new();
        for (name, resolved) in &resolution.components {
            let component = self.component(name, &resolved.version)?;
            let render = Render { catalog: self, component, options, resolution, installation, keeps, names };
            renders.push((render, render.crds()?));
        }
        let mut kinds = resource::builtin();
        kinds.extend(renders.iter().flat_map(|(_, crds)| crds).flat_map(resource::of_crd));
        let mut objects: BTreeMap<ObjectKey, DesiredObject> = BTreeMap::new();
        for (render, crds) in renders {
            components.insert(render.name().to_owned(), render.component(&kinds)?);
            for object in render.objects(crds, &kinds)? {
                let key = object.key();
                if objects.contains_key(&key) {
                    return Err(RenderError::Twice { object: key.to_string() });
                }
                objects.insert(key, object);
            }
        }
        self.patch(options, resolution, keeps, &mut objects)?;
        Ok(Desired {
            installation: installation.clone(),
            naming: names.naming,
            components,
            options: options.values().clone(),
            given: options.given().to_vec(),
            objects: objects.into_values().collect(),
        })
    }
}

/// References by the name or the role under which a template knows them.
type Images = BTreeMap<String, String>;

/// One component on its way to objects.
#[derive(Clone, Copy)]
struct Render<'a> {
    catalog: &'a Catalog,
    component: &'a Component,
    options: &'a Options,
    resolution: &'a Resolution,
    installation: &'a Installation,
    /// The installation that templates are told of.
    keeps: &'a Installation,
    /// How its objects are called.
    names: &'a Names,
}

impl Render<'_> {
    fn name(&self) -> &str {
        &self.component.manifest.name
    }

    fn version(&self) -> &Version {
        &self.component.manifest.version
    }

    fn component(&self, kinds: &[Resource]) -> Result<desired::Component, RenderError> {
        let manifest = &self.component.manifest;
        let needs = manifest.needs.keys().filter(|name| *name != KUBERNETES).cloned().collect();
        let mut probes = Vec::new();
        if let Some(file) = &manifest.probes {
            let (variables, _) = self.variables()?;
            for manifest in self.documents(file, &variables)? {
                let Some(resource) = resource::find(kinds, &manifest).cloned() else {
                    return Err(RenderError::Object {
                        file: path(file),
                        object: "a probe".to_owned(),
                        fault: ObjectFault::UnknownKind,
                    });
                };
                probes.push(Probe { resource, manifest });
            }
        }
        Ok(desired::Component { version: self.version().clone(), needs, probes })
    }

    /// The CRDs, from the type table, with the labels that upstream's install gives them.
    fn crds(&self) -> Result<Vec<Value>, RenderError> {
        let channel = match self.options.reconciler {
            Reconciler::Upstream => CrdChannel::Release,
            Reconciler::Native | Reconciler::Hosted => CrdChannel::Native,
        };
        let crd =
            |entry: &crate::component::CrdEntry| {
                let conversion = entry.conversion.as_deref().map(|name| self.names.service(name));
                let service = conversion
                    .as_deref()
                    .map(|name| ServiceRef { namespace: &self.installation.namespace, name });
                let mut crd = crds::emit(self.name(), self.version(), channel, &entry.name, service)
                    .map_err(|source| RenderError::Crd {
                        name: entry.name.clone(),
                        component: self.name().to_owned(),
                        version: self.version().clone(),
                        source: Box::new(source),
                    })?;
                let labels = self.names.labels_of_crd(&entry.labels);
                if !labels.is_empty() {
                    crd["metadata"]["labels"] = json!(labels);
                }
                Ok(crd)
            };
        let crds = self.component.manifest.crds.iter();
        crds.filter(|entry| !entry.native || channel == CrdChannel::Native).map(crd).collect()
    }

    fn objects(&self, crds: Vec<Value>, kinds: &[Resource]) -> Result<Vec<DesiredObject>, RenderError> {
        let manifest = &self.component.manifest;
        let mut objects = Vec::new();
        for crd in crds {
            objects.push(self.object("the type table", crd, kinds, &BTreeSet::new())?);
        }
        let (mut variables, shared) = self.variables()?;
        for file in &manifest.files {
            objects.extend(self.file(file, &variables, &shared, kinds)?);
        }
        let chosen =
            self.component.runtimes.iter().filter(|(name, _)| self.resolution.runtimes.contains(*name));
        for (name, runtime) in chosen {
            let images = self.references(&runtime.images, Some(name))?;
            let mut values: Map<String, Value> = runtime.values.clone().into_iter().collect();
            values.insert("name".to_owned(), json!(name));
            variables.insert("runtime".to_owned(), Value::Object(values));
            variables.insert("images".to_owned(), json!(images));
            objects.extend(self.file(&runtime.file, &variables, &images, kinds)?);
        }
        self.order(&mut objects)?;
        Ok(objects)
    }

    /// What every template of the component is given, and the images among it.
    fn variables(&self) -> Result<(Map<String, Value>, Images), Dangling> {
        let manifest = &self.component.manifest;
        let images = manifest.images.keys().map(|image| (image.clone(), image.clone())).collect();
        // Each runtime is given its own.
        let images =
            if manifest.runtimes.is_some() { BTreeMap::new() } else { self.references(&images, None)? };
        let mut variables: Map<String, Value> = manifest.values.clone().into_iter().collect();
        variables.insert("namespace".to_owned(), json!(self.installation.namespace));
        variables.insert("names".to_owned(), json!(self.names));
        variables.insert("installation".to_owned(), json!(self.keeps.name));
        variables.insert("options".to_owned(), json!(json!(given(self.options)).to_string()));
        variables.insert("data_cache".to_owned(), json!(self.options.data_cache));
        variables.insert("version".to_owned(), json!(self.version().to_string()));
        variables.insert("small_footprint".to_owned(), json!(self.options.small_footprint));
        variables.insert("train_job_status".to_owned(), json!(self.options.train_job_status));
        variables.insert("pre_stop_seconds".to_owned(), json!(self.pre_stop_seconds()));
        variables.insert("native".to_owned(), json!(self.options.reconciler != Reconciler::Upstream));
        variables.insert("hosted".to_owned(), json!(self.options.reconciler == Reconciler::Hosted));
        let process = manifest.processes.get(RECONCILER);
        let arguments = process.map(|process| process.arguments.join(", ")).unwrap_or_default();
        variables.insert("native_arguments".to_owned(), json!(arguments));
        variables.insert("images".to_owned(), json!(images));
        Ok((variables, images))
    }

    fn pre_stop_seconds(&self) -> u32 {
        let is_served = self.resolution.kubernetes.as_ref().is_none_or(|found| *found >= PRE_STOP_SLEEP);
        if is_served { PRE_STOP_SECONDS } else { 0 }
    }

    /// What is rendered for images of the component, given by role.
    fn references(
        &self,
        images: &BTreeMap<String, String>,
        runtime: Option<&str>,
    ) -> Result<Images, Dangling> {
        let one = |(role, entry): (&String, &String)| {
            let runtime = runtime.filter(|_| role == crate::component::NODE);
            Ok((role.clone(), reference(self.component, self.options, entry, runtime)?.to_string()))
        };
        images.iter().map(one).collect()
    }

    fn file(
        &self,
        file: &str,
        variables: &Map<String, Value>,
        images: &Images,
        kinds: &[Resource],
    ) -> Result<Vec<DesiredObject>, RenderError> {
        let declared = images.values().map(String::as_str).collect();
        let documents = self.documents(file, variables)?.into_iter();
        documents.map(|manifest| self.object(&path(file), manifest, kinds, &declared)).collect()
    }

    /// The documents that a template renders, empty ones left out.
    fn documents(&self, file: &str, variables: &Map<String, Value>) -> Result<Vec<Value>, RenderError> {
        let text = self.catalog.templates().render(file, variables)?;
        let unreadable = |source| RenderError::Manifest { file: path(file), source };
        let mut documents = Vec::new();
        for document in serde_yaml::Deserializer::from_str(&text) {
            // The detour through YAML's own value is what finds a key given twice.
            let manifest = serde_yaml::Value::deserialize(document).map_err(unreadable)?;
            let manifest: Value = serde_yaml::from_value(manifest).map_err(unreadable)?;
            if !manifest.is_null() {
                documents.push(manifest);
            }
        }
        Ok(documents)
    }

    /// Holds a manifest to the rules that every object keeps.
    fn object(
        &self,
        file: &str,
        mut manifest: Value,
        kinds: &[Resource],
        declared: &BTreeSet<&str>,
    ) -> Result<DesiredObject, RenderError> {
        let resource = judge(&manifest, kinds, declared).cloned().map_err(|fault| RenderError::Object {
            file: file.to_owned(),
            object: ObjectKey::of(&manifest).map_or_else(|| "an object".to_owned(), |key| key.to_string()),
            fault,
        })?;
        pods::set_pull_secrets(&mut manifest, &self.options.image_pull_secrets);
        Ok(DesiredObject {
            component: self.name().to_owned(),
            resource,
            manifest,
            after: Vec::new(),
            yielded: Vec::new(),
        })
    }

    /// Adds the edges that the component asks for beyond those of kinds.
    fn order(&self, objects: &mut [DesiredObject]) -> Result<(), Dangling> {
        let manifest = &self.component.manifest;
        for entry in &manifest.order {
            let named = |name: &str, objects: &[DesiredObject]| {
                let is = |key: &ObjectKey| format!("{} {}", key.kind, key.name) == name;
                let found = objects.iter().position(|object| is(&object.key()));
                found.ok_or_else(|| manifest.dangling(format!("object {name}")))
            };
            let after = objects[named(&entry.after, objects)?].key();
            let object = named(&entry.object, objects)?;
            objects[object].after.push(after);
        }
        Ok(())
    }
}

/// The options that were given, as the texts that a ConfigMap holds.
fn given(options: &Options) -> BTreeMap<&str, String> {
    let text = |name: &String| match &options.values().get(name).unwrap_or(&Value::Null) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    options.given().iter().map(|name| (name.as_str(), text(name))).collect()
}

/// How a manifest's kind is served, if the manifest keeps the rules; `declared` are the images it may use.
fn judge<'a>(
    manifest: &Value,
    kinds: &'a [Resource],
    declared: &BTreeSet<&str>,
) -> Result<&'a Resource, ObjectFault> {
    let key = ObjectKey::of(manifest).ok_or(ObjectFault::Nameless)?;
    let resource = resource::find(kinds, manifest).ok_or(ObjectFault::UnknownKind)?;
    if resource.namespaced != key.namespace.is_some() {
        return Err(ObjectFault::Scope);
    }
    if manifest.get("aggregationRule").is_some() && manifest.get("rules").is_some() {
        return Err(ObjectFault::ForeignField("rules"));
    }
    let has_bundle = |webhook: &Value| webhook["clientConfig"].get("caBundle").is_some();
    if manifest["webhooks"].as_array().is_some_and(|webhooks| webhooks.iter().any(has_bundle)) {
        return Err(ObjectFault::ForeignField("caBundle"));
    }
    match pods::images(manifest).into_iter().find(|image| !declared.contains(image)) {
        Some(image) => Err(ObjectFault::UndeclaredImage(image.to_owned())),
        None => Ok(resource),
    }
}

/// A file of the catalog as errors name it: from the root of the repository.
fn path(file: &str) -> String {
    format!("templates/{file}")
}
