//! What a person has allowed that a plan refuses otherwise.

/// What a person has allowed that a plan refuses otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Going back may change CRDs, which may drop what is stored in newer fields.
    pub lossy: bool,
    /// What is in use may be deleted: it goes once its users released it.
    pub in_use: bool,
    /// What no update may change is deleted and made again.
    pub recreate: bool,
}

impl Allowed {
    /// Whether either of them allows it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            lossy: self.lossy || other.lossy,
            in_use: self.in_use || other.in_use,
            recreate: self.recreate || other.recreate,
        }
    }
}
