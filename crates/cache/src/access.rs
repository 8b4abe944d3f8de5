//! Who may read rows: whoever has the token of a file, head and workers among them.
//!
//! The file is read again when it changes, as Secrets of Kubernetes do. The token before stays good for a while: pods
//! see a change at different times.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::{constant_time, hmac};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};

use crate::plan::ticket::Ticket;

/// How long the token before a change is good.
const OVERLAP: Duration = Duration::from_mins(5);

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long a ticket is good.
pub const TICKET: Duration = Duration::from_hours(24);

/// A token that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read the token of {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing in it, or what no header can carry.
    #[error("{0} has no token: one line of visible ASCII letters")]
    Empty(PathBuf),
}

/// The tokens of a file: the one that it has, and for a while the one that it had.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    token: Arc<str>,
    before: Option<(Arc<str>, Instant)>,
    changed: Option<SystemTime>,
    looked: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Held").field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the file.
    pub fn open(path: PathBuf) -> Result<Arc<Self>, Error> {
        let (token, changed) = read(&path)?;
        let held = Mutex::new(Held { token, before: None, changed, looked: Instant::now() });
        Ok(Arc::new(Self { path, held }))
    }

    /// The token that is sent, and those that are taken. A file that cannot be read keeps the token that it had.
    fn tokens(&self, now: Instant) -> (Arc<str>, Option<Arc<str>>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(held.looked) >= LOOK {
            held.looked = now;
            match read(&self.path) {
                Ok((token, changed)) => {
                    if token != held.token {
                        tracing::info!("the token has changed; the one before is good for five minutes");
                        let before = std::mem::replace(&mut held.token, token);
                        held.before = Some((before, now));
                    }
                    held.changed = changed;
                }
                Err(error) => tracing::warn!("{}", trainerd_causes::one_line(&error)),
            }
        }
        let before = held.before.as_ref().filter(|(_, since)| now.duration_since(*since) < OVERLAP);
        (Arc::clone(&held.token), before.map(|(token, _)| Arc::clone(token)))
    }

    fn any(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let (token, before) = self.tokens(Instant::now());
        is_it(&token) || before.is_some_and(|before| is_it(&before))
    }

    /// Whether a header's value is `Bearer` and one of the tokens.
    fn takes(&self, header: &str) -> bool {
        let Some(given) = header.strip_prefix("Bearer ") else { return false };
        self.any(|token| constant_time::verify_slices_are_equal(given.as_bytes(), token.as_bytes()).is_ok())
    }

    /// Signs a text.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        let (token, _) = self.tokens(Instant::now());
        hmac::sign(&key(&token), text).as_ref().to_vec()
    }

    /// Whether a text was signed by somebody with the token.
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        self.any(|token| hmac::verify(&key(token), text, signature).is_ok())
    }
}

fn key(token: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes())
}

fn read(path: &std::path::Path) -> Result<(Arc<str>, Option<SystemTime>), Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|letter| letter.is_ascii_graphic()) {
        return Err(Error::Empty(path.to_owned()));
    }
    let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    Ok((token.into(), changed))
}

/// Who is let in, and how this process asks others in.
#[derive(Clone, Debug, Default)]
pub struct Access(pub Option<Arc<Tokens>>);

impl Access {
    /// Lets a request in that has the token; any, where there is none.
    pub fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(tokens) = &self.0 else { return Ok(request) };
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if header.is_some_and(|header| tokens.takes(header)) {
            return Ok(request);
        }
        Err(Status::unauthenticated("missing or invalid token"))
    }

    /// With the file of a configuration, where it names one.
    pub fn of(config: &crate::config::Config) -> Result<Self, Error> {
        config.token_file.clone().map(Tokens::open).transpose().map(Self)
    }

    /// Signs a ticket, which is good for a day.
    pub fn sign(&self, ticket: &mut Ticket) {
        let (Some(tokens), Some(extension)) = (&self.0, &mut ticket.extension) else { return };
        extension.expires = seconds(SystemTime::now() + TICKET);
        extension.signature = Vec::new();
        let signature = tokens.sign(&ticket.encode());
        if let Some(extension) = &mut ticket.extension {
            extension.signature = signature;
        }
    }

    /// Takes a ticket that a head with the token made, and that is not too old. A bare one is a range, which anybody
    /// who was let in may ask for.
    pub fn admit(&self, ticket: &Ticket) -> Result<(), Status> {
        let (Some(tokens), Some(extension)) = (&self.0, &ticket.extension) else { return Ok(()) };
        let mut unsigned = ticket.clone();
        if let Some(extension) = &mut unsigned.extension {
            extension.signature = Vec::new();
        }
        if !tokens.verifies(&unsigned.encode(), &extension.signature) {
            return Err(Status::unauthenticated("the ticket is not signed with this cache's token"));
        }
        if extension.expires < seconds(SystemTime::now()) {
            return Err(Status::unauthenticated(
                "the ticket is older than a day; ask the head for another one",
            ));
        }
        Ok(())
    }

    /// Adds the token to a request of ours.
    pub fn authorize<T>(&self, request: &mut Request<T>) {
        let Some(tokens) = &self.0 else { return };
        let (token, _) = tokens.tokens(Instant::now());
        // A token of visible letters is a header's value.
        if let Ok(mut value) = format!("Bearer {token}").parse::<MetadataValue<Ascii>>() {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::range::Range;
    use crate::plan::ticket::Extension;

    #[test]
    fn a_ticket_is_taken_as_it_was_signed_and_no_longer_than_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let access = Access(Some(Tokens::open(path).unwrap()));
        let extension = Extension { plan_id: vec![7; 16], batch_rows: 8, ..Extension::default() };
        let range = Range { start: 0, end: 9 };
        let mut ticket = Ticket { range, extension: Some(extension) };
        let refused = |ticket: &Ticket| access.admit(ticket).map_err(|status| status.message().to_owned());
        let unsigned = "the ticket is not signed with this cache's token".to_owned();
        assert_eq!(refused(&ticket), Err(unsigned.clone()));
        access.sign(&mut ticket);
        assert_eq!(refused(&ticket), Ok(()));
        assert_eq!(refused(&Ticket::decode(&ticket.encode()).unwrap()), Ok(()));
        let mut forged = ticket.clone();
        forged.extension.as_mut().unwrap().batch_rows = 9;
        assert_eq!(refused(&forged), Err(unsigned.clone()));
        let mut longer = ticket.clone();
        longer.extension.as_mut().unwrap().expires += 1;
        assert_eq!(refused(&longer), Err(unsigned.clone()));
        let mut wider = ticket.clone();
        wider.range.end += 1;
        assert_eq!(refused(&wider), Err(unsigned));
        let mut old = ticket.clone();
        let extension = old.extension.as_mut().unwrap();
        (extension.expires, extension.signature) = (1, Vec::new());
        let signature = access.0.as_ref().unwrap().sign(&old.encode());
        old.extension.as_mut().unwrap().signature = signature;
        assert!(refused(&old).unwrap_err().contains("older than a day"));
        assert_eq!(refused(&Ticket { range, extension: None }), Ok(()));
        assert!(Access::default().admit(&forged).is_ok());
    }

    fn request(token: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_token_is_needed_and_the_one_before_a_change_is_good_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let tokens = Tokens::open(path.clone()).unwrap();
        let access = Access(Some(Arc::clone(&tokens)));
        for (given, is_good) in [
            (Some("Bearer one"), true),
            (Some("Bearer two"), false),
            (Some("Bearer "), false),
            (Some("bearer one"), false),
            (Some("one"), false),
            (None, false),
        ] {
            let checked = access.check(request(given));
            assert_eq!(checked.is_ok(), is_good, "{given:?}");
            if let Err(status) = checked {
                assert_eq!(status.message(), "missing or invalid token");
            }
        }
        assert!(Access::default().check(request(None)).is_ok());
        let mut ours = Request::new(());
        access.authorize(&mut ours);
        assert!(access.check(ours).is_ok());
        let signature = tokens.sign(b"ticket");
        assert!(tokens.verifies(b"ticket", &signature) && !tokens.verifies(b"tickets", &signature));

        std::fs::write(&path, "two").unwrap();
        let later = Instant::now() + LOOK;
        let (token, before) = tokens.tokens(later);
        assert_eq!((&*token, before.as_deref()), ("two", Some("one")));
        assert!(tokens.verifies(b"ticket", &signature));
        let (_, before) = tokens.tokens(later + OVERLAP);
        assert_eq!(before, None);
        // A file that is gone for a moment takes nobody's token away.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*tokens.tokens(later + OVERLAP + LOOK).0, "two");
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(matches!(Tokens::open(path.clone()), Err(Error::Read { .. })));
        for text in ["", " \n", "two words", "é"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Tokens::open(path.clone()), Err(Error::Empty(_))), "{text}");
        }
    }
}
