//! CustomResourceDefinitions.

use serde_json::{Map, Value, json};

use crate::gate::Levels;
use crate::openapi::SchemaError;
use crate::table::Table;

/// What a CustomResourceDefinition says beside the schemas.
#[derive(Clone, Copy, Debug)]
pub struct Crd {
    /// API group.
    pub group: &'static str,
    /// Kind; singular and list kind follow from it.
    pub kind: &'static str,
    /// Plural in request paths.
    pub plural: &'static str,
    /// Names that people may type instead.
    pub short_names: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub scope: Scope,
    /// Versions, in the order of the manifest.
    pub versions: &'static [CrdVersion],
}

/// Where objects live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In namespaces.
    Namespaced,
    /// Beside them.
    Cluster,
}

/// A version of a kind.
#[derive(Clone, Copy, Debug)]
pub struct CrdVersion {
    /// For example `v1alpha1`.
    pub name: &'static str,
    /// The table's type for the whole object.
    pub type_name: &'static str,
    /// Whether the API server answers requests for it.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// Columns of `kubectl get`.
    pub columns: &'static [Column],
    /// Whether the status is written apart from the rest.
    pub status: bool,
    /// Where the scale subresource finds its values.
    pub scale: Option<Scale>,
}

/// A column of `kubectl get`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type, for example `date`.
    pub of: &'static str,
    /// Where the value is.
    pub json_path: &'static str,
}

/// JSON paths of the scale subresource.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Wanted replicas.
    pub spec_replicas: &'static str,
    /// Replicas there are.
    pub status_replicas: &'static str,
    /// Label selector, as a string.
    pub label_selector: Option<&'static str>,
}

/// The service that converts between versions.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// Namespace of the service.
    pub namespace: &'a str,
    /// Name of the service.
    pub name: &'a str,
    /// Path of the webhook, for example `/convert`.
    pub path: &'a str,
}

impl Crd {
    /// Name of the definition: `<plural>.<group>`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The manifest at these levels, without labels and with these annotations. Without `conversion` the
    /// API server converts by changing `apiVersion` alone.
    ///
    /// # Errors
    /// When the table cannot say what a version's type is at these levels.
    pub fn manifest<'a>(
        &self,
        table: &Table,
        levels: &Levels,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
        conversion: Option<Conversion<'_>>,
    ) -> Result<Value, SchemaError> {
        let mut names = json!({
            "kind": self.kind,
            "listKind": format!("{}List", self.kind),
            "plural": self.plural,
            "singular": self.kind.to_lowercase(),
        });
        if !self.short_names.is_empty() {
            names["shortNames"] = json!(self.short_names);
        }
        let mut metadata = json!({ "name": self.name() });
        let annotations: Map<_, _> = annotations.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        let versions = self.versions.iter().map(|version| version.manifest(table, levels));
        let mut spec = json!({
            "group": self.group,
            "names": names,
            "scope": match self.scope {
                Scope::Namespaced => "Namespaced",
                Scope::Cluster => "Cluster",
            },
        });
        spec["versions"] = Value::Array(versions.collect::<Result<_, _>>()?);
        if let Some(Conversion { namespace, name, path }) = conversion {
            spec["conversion"] = json!({
                "strategy": "Webhook",
                "webhook": {
                    "clientConfig": { "service": { "namespace": namespace, "name": name, "path": path } },
                    "conversionReviewVersions": ["v1"],
                },
            });
        }
        let mut manifest = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata,
        });
        manifest["spec"] = spec;
        Ok(manifest)
    }
}

impl CrdVersion {
    fn manifest(&self, table: &Table, levels: &Levels) -> Result<Value, SchemaError> {
        let mut version = json!({ "name": self.name, "served": self.served, "storage": self.storage });
        // Put in place, not through `json!`, which copies what it is given: schemas are large.
        version["schema"]["openAPIV3Schema"] = table.schema(self.type_name, levels)?;
        if !self.columns.is_empty() {
            let column = |c: &Column| json!({ "name": c.name, "type": c.of, "jsonPath": c.json_path });
            version["additionalPrinterColumns"] = self.columns.iter().map(column).collect();
        }
        if self.status {
            version["subresources"]["status"] = json!({});
        }
        if let Some(scale) = self.scale {
            let mut paths = json!({
                "specReplicasPath": scale.spec_replicas,
                "statusReplicasPath": scale.status_replicas,
            });
            if let Some(selector) = scale.label_selector {
                paths["labelSelectorPath"] = json!(selector);
            }
            version["subresources"]["scale"] = paths;
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Crd = Crd {
        group: "example.org",
        kind: "BigBox",
        plural: "bigboxes",
        short_names: &[],
        scope: Scope::Cluster,
        versions: &[CrdVersion {
            name: "v1",
            type_name: "BigBox",
            served: true,
            storage: true,
            columns: &[],
            status: false,
            scale: None,
        }],
    };

    fn manifest(crd: &Crd, conversion: Option<Conversion<'_>>) -> Value {
        let table = Table::parse([("test", "type BigBox\n  a string")]).unwrap();
        crd.manifest(&table, &Levels::default(), [], conversion).unwrap()
    }

    #[test]
    fn omits_what_a_kind_does_not_have() {
        let expected = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": "bigboxes.example.org" },
            "spec": {
                "group": "example.org",
                "names": { "kind": "BigBox", "listKind": "BigBoxList", "plural": "bigboxes", "singular": "bigbox" },
                "scope": "Cluster",
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object",
                        "properties": { "a": { "type": "string" } },
                    } },
                }],
            },
        });
        assert_eq!(manifest(&PLAIN, None), expected);
    }

    #[test]
    fn points_the_conversion_at_the_service() {
        let service = Conversion { namespace: "here", name: "box-webhook", path: "/convert" };
        let expected = json!({
            "strategy": "Webhook",
            "webhook": {
                "clientConfig": {
                    "service": { "namespace": "here", "name": "box-webhook", "path": "/convert" },
                },
                "conversionReviewVersions": ["v1"],
            },
        });
        assert_eq!(manifest(&PLAIN, Some(service))["spec"]["conversion"], expected);
    }

    #[test]
    fn a_missing_type_is_an_error() {
        let error = PLAIN.manifest(&Table::default(), &Levels::default(), [], None).unwrap_err();
        assert_eq!(error, SchemaError::UnknownType("BigBox".into()));
    }
}
