//! What a request may ask for besides its object.

use serde_json::{Value, json};

/// How the API server treats unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse the request.
    #[default]
    Strict,
    /// Drop them and warn.
    Warn,
    /// Drop them.
    Ignore,
}

impl FieldValidation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Warn => "Warn",
            Self::Ignore => "Ignore",
        }
    }
}

/// Options of a server-side apply.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of the request by itself")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyParams {
    /// Take fields over from other managers instead of answering with a conflict.
    pub force: bool,
    /// Run admission and validation, store nothing.
    pub dry_run: bool,
    /// Treatment of unknown fields.
    pub field_validation: FieldValidation,
    /// Field manager, where it is not the connection's own.
    pub field_manager: Option<String>,
    /// Answer with `apiVersion`, `kind` and `metadata` only.
    pub metadata_only: bool,
    /// Apply the `status` subresource, and nothing else of the object.
    pub status: bool,
}

/// What a server-side apply did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object as stored.
    pub object: Value,
    /// Whether it was made by this very request.
    pub created: bool,
}

/// Options of a create, a replace or a merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateParams {
    /// Run admission and validation, store nothing.
    pub dry_run: bool,
    /// Treatment of unknown fields.
    pub field_validation: FieldValidation,
    /// Answer with `apiVersion`, `kind` and `metadata` only.
    pub metadata_only: bool,
    /// Patch the `status` subresource, and nothing else of the object. A create and a replace do not look at it.
    pub status: bool,
}

/// What happens to the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only at this resourceVersion.
    pub resource_version: Option<String>,
    /// What happens to owned objects; the kind's default (background for all current kinds) if `None`.
    pub propagation: Option<Propagation>,
    /// Run admission, delete nothing.
    pub dry_run: bool,
}

impl DeleteParams {
    /// The body of the request.
    pub(crate) fn to_body(&self) -> Value {
        let mut body = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if self.uid.is_some() || self.resource_version.is_some() {
            let mut preconditions = json!({});
            if let Some(uid) = &self.uid {
                preconditions["uid"] = json!(uid);
            }
            if let Some(version) = &self.resource_version {
                preconditions["resourceVersion"] = json!(version);
            }
            body["preconditions"] = preconditions;
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = json!(match propagation {
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
                Propagation::Orphan => "Orphan",
            });
        }
        if self.dry_run {
            body["dryRun"] = json!(["All"]);
        }
        body
    }
}

/// What the server answered to a delete.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The object is gone from storage.
    Done,
    /// The server answered with the object as it last was. It may be gone, or wait for finalizers or for its
    /// grace period: kinds differ, so only a get or a watch tells.
    Accepted(Value),
}

/// Which objects to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Namespace; `None` for all namespaces, or for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Label selector, for example `app=web,tier!=cache`.
    pub label_selector: Option<String>,
    /// Field selector, for example `metadata.name=web`.
    pub field_selector: Option<String>,
    /// Ask for metadata only: items have `apiVersion`, `kind` and `metadata`, nothing else.
    pub metadata_only: bool,
}

/// Objects of one kind at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectList {
    /// The objects, each with `apiVersion` and `kind`, which the API server leaves out of the items of lists.
    pub items: Vec<Value>,
    /// resourceVersion of the list: a watch from here misses nothing.
    pub resource_version: String,
}
