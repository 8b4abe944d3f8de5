//! Pebble is told when the status changes: its notice wakes the charm.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use trainerd_juju::pebble::Pebble;

use super::reason::reason;
use super::status_store::StatusStore;

/// The key of the notice: always the same one, so that Pebble keeps one, however often it comes.
pub(crate) const KEY: &str = "trainerd.dev/state";

/// Shortest time between two notices.
const INTERVAL: Duration = Duration::from_secs(5);

/// Longest time between two looks at the status.
const LOOK: Duration = Duration::from_secs(10);

/// Tells Pebble of every change of phase or reason, for as long as the status lives.
pub(super) async fn tell(status: StatusStore, socket: PathBuf) {
    let pebble = Pebble::new(socket);
    let mut view = status.follow();
    let mut told: Option<(&'static str, String)> = None;
    loop {
        let now = {
            let view = view.borrow_and_update();
            let reason = serde_json::to_value(reason(&view, Timestamp::now())).unwrap_or_default();
            let code = reason["code"].as_str().unwrap_or_default().to_owned();
            (view.phase.word(), code)
        };
        if told.as_ref() != Some(&now) {
            let started = Instant::now();
            let data = BTreeMap::from([("phase", now.0), ("reason", now.1.as_str())]);
            let answer = pebble.notify(KEY, &data).await;
            tokio::time::sleep_until(started + INTERVAL).await;
            match answer {
                Ok(()) => told = Some(now),
                Err(error) => {
                    let why = trainerd_causes::one_line(&error);
                    tracing::warn!(why, "failed to notify Pebble of the status");
                }
            }
            // What changed meanwhile, or could not be told, is told now.
            continue;
        }
        // How long something is waited for counts, too, and of that nobody tells.
        if let Ok(Err(_)) = tokio::time::timeout(LOOK, view.changed()).await {
            return;
        }
    }
}
