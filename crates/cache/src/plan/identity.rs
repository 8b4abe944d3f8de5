//! The identity of a plan.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Origin, Unit};

/// Version of the plan's form; part of its identity, so that another form is another plan.
const VERSION: u32 = 1;

/// The first 16 bytes of the SHA-256 of a plan's canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanId([u8; 16]);

#[derive(Serialize)]
struct Canonical<'a> {
    #[serde(flatten)]
    origin: &'a Origin,
    units: Vec<(&'a str, Option<u32>, u64)>,
    version: u32,
}

/// What a plan's identity was read from is no 32 hexadecimal digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a plan's id has 32 hexadecimal digits")]
pub struct NotAPlanId;

impl PlanId {
    /// Of units that are in canonical order.
    pub(super) fn of(origin: &Origin, units: &[Unit]) -> Self {
        let units = units.iter().map(|unit| (unit.path.as_str(), unit.row_group, unit.rows)).collect();
        let canonical = serde_json::json!(Canonical { origin, units, version: VERSION });
        let digest = Sha256::digest(canonical.to_string());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// From 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, NotAPlanId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAPlanId);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| NotAPlanId)
    }

    /// From the 16 bytes of a ticket.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAPlanId> {
        bytes.try_into().map(Self).map_err(|_| NotAPlanId)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for PlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_as_it_was_printed() {
        let id = PlanId::of(&Origin::default(), &[]);
        assert_eq!(PlanId::parse(&id.to_string()), Ok(id));
        assert_eq!(PlanId::from_bytes(id.as_bytes()), Ok(id));
        for bad in ["", "zz", "+0000000000000000000000000000000", "00000000000000000000000000000000f"] {
            assert_eq!(PlanId::parse(bad), Err(NotAPlanId), "{bad}");
        }
    }
}
