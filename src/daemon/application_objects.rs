//! Reconciles objects that belong to a Juju application and to no revision with what is declared.

use std::time::Duration;

use tokio::sync::watch;
use trainerd_cluster::retry::Backoff;
use trainerd_juju::desired::Intent;

use super::declared::Declared;
use crate::application::ApplicationObjects;

/// The desired state of these objects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted<T> {
    /// Unknown to this daemon: nothing is declared, or another daemon acts.
    NotOurs,
    /// Nothing.
    Nothing,
    /// This.
    This(T),
}

/// The desired state; nothing if the installation is to be removed.
fn wanted<K: ApplicationObjects>(declared: &Declared) -> Wanted<K::Spec> {
    match declared {
        Declared::Options(spec) if !spec.standby => {
            let wanted = K::spec(spec).filter(|_| spec.intent == Intent::Run);
            wanted.map_or(Wanted::Nothing, Wanted::This)
        }
        _ => Wanted::NotOurs,
    }
}

/// Reconciles them until the source ends; `tried` receives the outcome of each attempt.
pub(super) async fn reconcile<K: ApplicationObjects>(
    kept: K,
    mut declared: watch::Receiver<Declared>,
    tried: impl Fn(&Result<(), K::Error>),
) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    // The last applied state, which is checked again periodically.
    let mut done = Wanted::NotOurs;
    loop {
        let wanted = wanted::<K>(&declared.borrow_and_update());
        let mut again = K::LOOK.filter(|_| matches!(wanted, Wanted::This(_)));
        if wanted != done {
            let brought = match &wanted {
                Wanted::NotOurs => Ok(()),
                Wanted::Nothing => kept.remove().await,
                Wanted::This(spec) => kept.ensure(spec).await,
            };
            tried(&brought);
            match brought {
                Ok(()) => {
                    backoff.reset();
                    done = wanted;
                }
                Err(error) => {
                    let (why, wait) = (trainerd_causes::one_line(&error), backoff.next_wait());
                    tracing::warn!(why, ?wait, "{} not up to date", K::WHAT);
                    again = Some(wait);
                }
            }
        }
        tokio::select! {
            changed = declared.changed() => if changed.is_err() { return },
            () = super::at(again) => done = Wanted::NotOurs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use trainerd_juju::desired::Image;

    use super::*;
    use crate::options::declared::OptionsSpec;

    /// Writes down what it is asked for, and fails as often as it is told.
    struct Noted {
        asked: Arc<Mutex<Vec<String>>>,
        failures: Mutex<usize>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("not yet")]
    struct NotYet;

    impl Noted {
        fn note(&self, what: &str) -> Result<(), NotYet> {
            self.asked.lock().unwrap().push(what.to_owned());
            let mut failures = self.failures.lock().unwrap();
            if *failures == 0 {
                return Ok(());
            }
            *failures -= 1;
            Err(NotYet)
        }
    }

    impl ApplicationObjects for Noted {
        type Spec = Image;
        type Error = NotYet;
        const WHAT: &'static str = "a note is";
        const LOOK: Option<Duration> = Some(Duration::from_mins(10));

        fn spec(spec: &OptionsSpec) -> Option<Image> {
            spec.image.clone()
        }

        async fn ensure(&self, image: &Image) -> Result<(), NotYet> {
            self.note(&image.registrypath)
        }

        async fn remove(&self) -> Result<(), NotYet> {
            self.note("remove")
        }
    }

    fn declared(image: Option<&str>, standby: bool, intent: Intent) -> Declared {
        let image = image.map(|path| Image {
            registrypath: path.to_owned(),
            username: String::new(),
            password: String::new(),
        });
        Declared::Options(OptionsSpec {
            standby,
            intent,
            image,
            ..OptionsSpec::of(BTreeMap::new(), &crate::options::Source::Api)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn application_objects_follow_the_options_and_are_checked_periodically() {
        let (declare, receiver) = watch::channel(Declared::Nothing);
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Noted { asked: Arc::clone(&asked), failures: Mutex::new(2) };
        tokio::spawn(reconcile(kept, receiver, |_| {}));
        let told = async |wait: Duration| {
            tokio::time::sleep(wait).await;
            std::mem::take(&mut *asked.lock().unwrap())
        };
        let soon = Duration::from_secs(20);
        assert!(told(soon).await.is_empty(), "nothing is declared");
        declare.send_replace(declared(Some("a"), true, Intent::Run));
        assert!(told(soon).await.is_empty(), "another daemon acts");
        declare.send_replace(declared(Some("a"), false, Intent::Run));
        assert_eq!(told(soon).await, ["a", "a", "a"], "two tries failed");
        assert_eq!(told(Duration::from_mins(11)).await, ["a"], "looked at again");
        declare.send_replace(declared(Some("a"), false, Intent::Remove));
        assert_eq!(told(soon).await, ["remove"]);
        assert!(told(Duration::from_mins(30)).await.is_empty(), "what is gone is not looked at");
        declare.send_replace(declared(Some("b"), false, Intent::Run));
        declare.send_replace(declared(None, false, Intent::Run));
        assert!(told(soon).await.iter().all(|what| what == "remove"));
    }
}
