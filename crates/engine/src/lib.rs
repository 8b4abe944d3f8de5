//! Observing, executing, waiting, journal and revisions.
