//! The daemon's own component, which is an installation by itself: what it keeps is another one.

use std::collections::BTreeMap;

use serde_json::Value;
use trainerd_plan::desired::{Desired, Installation, Naming};
use trainerd_plan::object::ObjectKey;

use crate::catalog::{Catalog, LookupError};
use crate::names::{DAEMON, Names};
use crate::options::Options;
use crate::render::RenderError;
use crate::resolve::{Resolution, Resolved, Why};

/// The ConfigMap in which its options are declared.
pub const DAEMON_OPTIONS: &str = "trainerd-options";

/// The ServiceAccount that may look at its API.
pub const DAEMON_VIEWER: &str = "trainerd-viewer";

/// For whom a token is that opens the API of the daemon of an installation, and nothing else.
pub fn daemon_audience(keeps: &Installation) -> String {
    format!("trainerd.dev/{}/{}", keeps.namespace, keeps.name)
}

/// The Secret in which the daemon of a pod says by which certificate it is known.
pub fn daemon_certificate(pod: &str) -> String {
    format!("{pod}-certificate")
}

/// The installation that a daemon is, given the one that it keeps: in the same namespace.
pub fn daemon_that_keeps(keeps: &Installation) -> Installation {
    Installation { name: DAEMON.to_owned(), namespace: keeps.namespace.clone() }
}

/// The objects of an installation that people edit. They are never part of a revision: whoever creates them again, rolls
/// back or prunes leaves them as they are.
pub fn edited_by_people(installation: &Installation) -> Vec<ObjectKey> {
    let options = ObjectKey {
        group: String::new(),
        kind: "ConfigMap".to_owned(),
        namespace: Some(installation.namespace.clone()),
        name: DAEMON_OPTIONS.to_owned(),
    };
    if installation.name == DAEMON { vec![options] } else { Vec::new() }
}

/// What `bootstrap` puts into the cluster.
pub struct Bootstrap {
    /// The daemon with what it needs, which a revision keeps.
    pub desired: Desired,
    /// The ConfigMap of options, for where there is none yet.
    pub options: Value,
}

impl Catalog {
    /// The daemon at its newest version, and nothing else.
    ///
    /// # Errors
    /// [`LookupError::Component`] where the catalog has no daemon.
    pub fn resolve_daemon(&self) -> Result<Resolution, LookupError> {
        let version = self.newest(DAEMON).cloned().ok_or_else(|| self.unknown(DAEMON))?;
        let resolved = Resolved { version, why: Why::Newest };
        Ok(Resolution {
            components: [(DAEMON.to_owned(), resolved)].into(),
            runtimes: std::collections::BTreeSet::new(),
            external: BTreeMap::new(),
            kubernetes: None,
        })
    }

    /// The daemon that keeps an installation, in the same namespace; the options that were given are those that its
    /// ConfigMap declares.
    ///
    /// # Errors
    /// As [`Catalog::render`].
    pub fn render_daemon(&self, options: &Options, keeps: &Installation) -> Result<Desired, RenderError> {
        let names = Names::of(Naming::Upstream, keeps);
        self.render_for(options, &self.resolve_daemon()?, &daemon_that_keeps(keeps), keeps, &names)
    }

    /// As [`Catalog::render_daemon`], with what people edit apart from what a revision keeps.
    ///
    /// # Errors
    /// As [`Catalog::render`].
    pub fn render_bootstrap(
        &self,
        options: &Options,
        keeps: &Installation,
    ) -> Result<Bootstrap, RenderError> {
        let mut desired = self.render_daemon(options, keeps)?;
        let edited = edited_by_people(&desired.installation);
        let mut options = Value::Null;
        desired.objects.retain(|object| {
            let is_edited = edited.contains(&object.key());
            if is_edited {
                options = object.manifest.clone();
            }
            !is_edited
        });
        Ok(Bootstrap { desired, options })
    }
}
