//! What can be asked of the API server.

use http::Method;
use serde_json::{Value, json};
use trainerd_object::Resource;

use crate::cluster::Cluster;
use crate::error::{RequestError, Verb};
use crate::params::{Applied, ApplyParams, CreateParams, DeleteParams, Deletion, ListParams, ObjectList};
use crate::path::{self, Query};
use crate::transport::Call;

/// Objects a page of a list: a request each, and a bound on the memory that one takes on either side.
const PAGE: &str = "1000";
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// JSON is YAML; the server knows server-side apply by this media type only.
const APPLY_PATCH: &str = "application/apply-patch+yaml";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// The answer to an apply that made its object; one that met an object is answered with 200.
const CREATED: u16 = 201;
const JSON_PATCH: &str = "application/json-patch+json";

impl Cluster {
    /// Reads an object.
    pub async fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, RequestError> {
        self.call(Call::get(Verb::Get, path::object(resource, namespace, name)?)).await
    }

    /// Reads an object; `None` when it does not exist or its kind is not served.
    pub async fn get_opt(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, RequestError> {
        match self.get(resource, namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an object's `apiVersion`, `kind` and `metadata`.
    pub async fn get_metadata(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, RequestError> {
        let call = Call::get(Verb::Get, path::object(resource, namespace, name)?).accept(METADATA);
        let mut object = self.call(call).await?;
        name_kind(&mut object, resource);
        Ok(object)
    }

    /// Lists objects, in pages of 1,000, as of one moment.
    ///
    /// When the pages take so long that the moment has been compacted away, the list starts again unpaged.
    pub async fn list(&self, resource: &Resource, params: &ListParams) -> Result<ObjectList, RequestError> {
        match self.list_pages(resource, params, Some(PAGE)).await {
            Err(RequestError::Expired { .. }) => self.list_pages(resource, params, None).await,
            answer => answer,
        }
    }

    async fn list_pages(
        &self,
        resource: &Resource,
        params: &ListParams,
        limit: Option<&str>,
    ) -> Result<ObjectList, RequestError> {
        let mut list = ObjectList::default();
        let mut token: Option<String> = None;
        loop {
            let page = self.page(resource, params, limit, token.as_deref()).await?;
            list.items.extend(page.items);
            list.resource_version = page.resource_version;
            token = page.next;
            if token.is_none() {
                return Ok(list);
            }
        }
    }

    /// Lists objects page by page, of so many objects at most, as of one moment, whose resourceVersion it answers with: no
    /// more than a page is in memory at a time, however many there are.
    ///
    /// # Errors
    /// [`RequestError::Expired`] where the pages take so long that the moment has been compacted away.
    pub async fn for_each(
        &self,
        resource: &Resource,
        params: &ListParams,
        page: usize,
        mut each: impl FnMut(Value),
    ) -> Result<String, RequestError> {
        let limit = page.to_string();
        let mut token: Option<String> = None;
        loop {
            let page = self.page(resource, params, Some(&limit), token.as_deref()).await?;
            page.items.into_iter().for_each(&mut each);
            token = page.next;
            if token.is_none() {
                return Ok(page.resource_version);
            }
        }
    }

    async fn page(
        &self,
        resource: &Resource,
        params: &ListParams,
        limit: Option<&str>,
        token: Option<&str>,
    ) -> Result<Page, RequestError> {
        let collection = path::collection(resource, params.namespace.as_deref());
        let mut query = Query::default();
        query
            .set_some("labelSelector", params.label_selector.as_deref())
            .set_some("fieldSelector", params.field_selector.as_deref())
            .set_some("limit", limit)
            .set_some("continue", token);
        let mut call = Call::get(Verb::List, query.append_to(&collection));
        if params.metadata_only {
            call = call.accept(METADATA_LIST);
        }
        let mut page = self.call(call).await?;
        let mut items = match page.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        for item in &mut items {
            name_kind(item, resource);
        }
        let metadata = page.get("metadata");
        let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
        Ok(Page {
            items,
            resource_version: text("resourceVersion").unwrap_or_default().to_owned(),
            next: text("continue").filter(|token| !token.is_empty()).map(str::to_owned),
        })
    }

    /// Server-side apply. Answers with the object as stored, or as it would be under `dry_run`.
    ///
    /// A `metadata.uid` or `metadata.resourceVersion` in the manifest is a precondition.
    pub async fn apply(
        &self,
        resource: &Resource,
        manifest: &Value,
        params: &ApplyParams,
    ) -> Result<Value, RequestError> {
        self.apply_telling(resource, manifest, params).await.map(|applied| applied.object)
    }

    /// As [`Self::apply`], and tells whether the object was made or was there already.
    pub async fn apply_telling(
        &self,
        resource: &Resource,
        manifest: &Value,
        params: &ApplyParams,
    ) -> Result<Applied, RequestError> {
        let name = text(manifest, "/metadata/name").unwrap_or_default();
        let path = path::part(resource, text(manifest, "/metadata/namespace"), name, params.status)?;
        let mut query = Query::default();
        query
            .set("fieldManager", params.field_manager.as_deref().unwrap_or_else(|| self.field_manager()))
            .set("fieldValidation", params.field_validation.as_str());
        if params.force {
            query.set("force", "true");
        }
        if params.dry_run {
            query.set("dryRun", "All");
        }
        let (uid, version) = preconditions(manifest);
        let call = Call::new(Verb::Patch, Method::PATCH, query.append_to(&path))
            .content(APPLY_PATCH, manifest)
            .preconditions(uid, version);
        let call = if params.metadata_only { call.accept(METADATA) } else { call };
        let (code, mut object) = self.call_with_code(call).await?;
        if params.metadata_only {
            name_kind(&mut object, resource);
        }
        Ok(Applied { object, created: code == CREATED })
    }

    /// Creates an object and answers with it as stored.
    pub async fn create(
        &self,
        resource: &Resource,
        manifest: &Value,
        params: CreateParams,
    ) -> Result<Value, RequestError> {
        let path = path::home(resource, text(manifest, "/metadata/namespace"))?;
        let call =
            Call::new(Verb::Create, Method::POST, self.write_query(params).append_to(&path)).json(manifest);
        self.write(call, resource, params.metadata_only).await
    }

    /// Replaces an object by a whole one, at its `metadata.resourceVersion` when it carries one, and answers
    /// with it as stored.
    pub async fn replace(
        &self,
        resource: &Resource,
        manifest: &Value,
        params: CreateParams,
    ) -> Result<Value, RequestError> {
        let name = text(manifest, "/metadata/name").unwrap_or_default();
        let path = path::object(resource, text(manifest, "/metadata/namespace"), name)?;
        let (uid, version) = preconditions(manifest);
        let call = Call::new(Verb::Update, Method::PUT, self.write_query(params).append_to(&path))
            .json(manifest)
            .preconditions(uid, version);
        self.write(call, resource, params.metadata_only).await
    }

    /// Changes an object by a JSON merge patch (RFC 7386) and answers with it as stored. A `metadata.uid` or
    /// `metadata.resourceVersion` in the patch is a precondition.
    pub async fn patch_merge(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
        params: CreateParams,
    ) -> Result<Value, RequestError> {
        let object = path::part(resource, namespace, name, params.status)?;
        let (uid, version) = preconditions(patch);
        let call = Call::new(Verb::Patch, Method::PATCH, self.write_query(params).append_to(&object))
            .content(MERGE_PATCH, patch)
            .preconditions(uid, version);
        self.write(call, resource, params.metadata_only).await
    }

    async fn write(
        &self,
        call: Call,
        resource: &Resource,
        metadata_only: bool,
    ) -> Result<Value, RequestError> {
        if !metadata_only {
            return self.call(call).await;
        }
        let mut object = self.call(call.accept(METADATA)).await?;
        name_kind(&mut object, resource);
        Ok(object)
    }

    /// Changes an object by a JSON patch (RFC 6902) and answers with it as stored.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] where a `test` of the patch does not hold.
    pub async fn patch_json(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<Value, RequestError> {
        let object = path::object(resource, namespace, name)?;
        let query = self.write_query(CreateParams::default());
        let call = Call::new(Verb::Patch, Method::PATCH, query.append_to(&object));
        self.call(call.content(JSON_PATCH, patch)).await
    }

    /// Deletes an object.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        params: &DeleteParams,
    ) -> Result<Deletion, RequestError> {
        let path = path::object(resource, namespace, name)?;
        let call = Call::new(Verb::Delete, Method::DELETE, path)
            .json(&params.to_body())
            .preconditions(params.uid.is_some(), params.resource_version.is_some());
        let answer = self.call(call).await?;
        let done = text(&answer, "/kind") == Some("Status") && text(&answer, "/apiVersion") == Some("v1");
        Ok(if done { Deletion::Done } else { Deletion::Accepted(answer) })
    }

    /// Whether the server serves a kind in this version.
    pub async fn serves(&self, resource: &Resource) -> Result<bool, RequestError> {
        match self.call(Call::get(Verb::Get, path::group_version(resource))).await {
            Ok(answer) => Ok(answer
                .get("resources")
                .and_then(Value::as_array)
                .is_some_and(|served| served.iter().any(|row| text(row, "/name") == Some(&resource.plural)))),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_query(&self, params: CreateParams) -> Query {
        let mut query = Query::default();
        query
            .set("fieldManager", self.field_manager())
            .set("fieldValidation", params.field_validation.as_str());
        if params.dry_run {
            query.set("dryRun", "All");
        }
        query
    }
}

/// A page of a list.
struct Page {
    items: Vec<Value>,
    resource_version: String,
    /// Where the next one begins; `None` after the last.
    next: Option<String>,
}

/// Sets `apiVersion` and `kind`: items of lists lack them, and metadata answers say `PartialObjectMetadata`.
pub(crate) fn name_kind(object: &mut Value, resource: &Resource) {
    if let Value::Object(fields) = object {
        fields.insert("apiVersion".to_owned(), json!(resource.api_version()));
        fields.insert("kind".to_owned(), json!(resource.kind));
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

fn preconditions(manifest: &Value) -> (bool, bool) {
    (text(manifest, "/metadata/uid").is_some(), text(manifest, "/metadata/resourceVersion").is_some())
}
