//! Markers of an installation: who owns its options, and whether reconciliation is suspended.
//!
//! Each is a Secret of its own, so that a person may pause whatever is being written just then, and needs no lease.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainerd_cluster::{DeleteParams, RequestError, builtin};
use trainerd_plan::applyset;

use super::keep::OwnedSecret;
use super::{QUIETLY, RECORD, Store, StoredError, damaged, json_of};
use crate::error::EngineError;
use crate::retry::patiently;

/// Something that holds until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    /// Its content: the source that owns the options, or why reconciliation is suspended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// Which command, or which daemon, wrote it.
    pub by: String,
    /// Who asked a daemon for it over its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// When.
    pub since: Timestamp,
    /// UID of its Secret: an equal marker that is set again is another one.
    #[serde(skip)]
    pub uid: String,
}

/// Who has the say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// Reconciliation is suspended.
    pub paused: Option<Marker>,
    /// A daemon brings the installation to the options of one declared source.
    #[serde(rename = "ruler")]
    pub owner: Option<Marker>,
}

impl Control {
    /// The owner of the options, if it is another source than this one.
    pub fn other_owner(&self, source: &str) -> Option<&Marker> {
        self.owner.as_ref().filter(|owner| owner.what != source)
    }
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkerKind {
    Paused,
    Owner,
}

impl MarkerKind {
    /// The value of its label, the end of its name, and the key of its data.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Owner => "ruler",
        }
    }

    /// What a Secret of the records is about, unless it is the record or a revision.
    pub(crate) fn of(secret: &Value) -> Option<Self> {
        let label = applyset::label(secret, RECORD);
        [Self::Paused, Self::Owner].into_iter().find(|about| label == Some(about.word()))
    }
}

impl Store {
    /// Reads the notes among Secrets of ours.
    pub(super) fn control(secrets: &[OwnedSecret]) -> Result<Control, EngineError> {
        let read = |about: MarkerKind| {
            let Some(secret) = secrets.iter().find(|secret| secret.is(about.word())) else {
                return Ok::<_, EngineError>(None);
            };
            let note: Marker = json_of(&secret.object, about.word()).map_err(damaged(&secret.name))?;
            Ok(Some(Marker { uid: secret.uid.clone(), ..note }))
        };
        Ok(Control { paused: read(MarkerKind::Paused)?, owner: read(MarkerKind::Owner)? })
    }

    fn marker_name(&self, about: MarkerKind) -> String {
        format!("{}-{}", applyset::parent_name(&self.installation), about.word())
    }

    /// Creates a marker unless it exists, and returns the existing one.
    pub(crate) async fn note(&self, about: MarkerKind, note: Marker) -> Result<Option<Marker>, EngineError> {
        let name = self.marker_name(about);
        let text = serde_json::to_vec(&note).map_err(StoredError::from).map_err(damaged(&name))?;
        let secret = self.manifest(&name, about.word(), &text);
        match patiently(async || self.cluster.create(&builtin::secret(), &secret, QUIETLY).await).await {
            Ok(written) => {
                let uid = written["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                Ok(Some(Marker { uid, ..note }))
            }
            Err(RequestError::AlreadyExists { .. }) => Ok(None),
            Err(error) => Err(EngineError::request("write", format!("Secret {name}"))(error)),
        }
    }

    /// Takes a note back, whichever it is or that very one; whether there was one.
    pub(crate) async fn take_back(&self, about: MarkerKind, uid: Option<&str>) -> Result<bool, EngineError> {
        let name = self.marker_name(about);
        let params = DeleteParams { uid: uid.map(str::to_owned), ..DeleteParams::default() };
        let delete =
            async || self.cluster.delete(&builtin::secret(), Some(self.namespace()), &name, &params).await;
        match patiently(delete).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(RequestError::Conflict { .. }) => Err(EngineError::ChangedMeanwhile { added: Vec::new() }),
            Err(error) => Err(EngineError::request("delete", format!("Secret {name}"))(error)),
        }
    }
}
