//! What goes wrong, and at which request.

use std::time::Duration;

use http::Method;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The child is killed; the request never reaches the API server.
    KillBefore,
    /// The API server answers, then the child is killed without having seen it.
    KillAfter,
    /// The proxy answers with this status in the API server's place.
    Answer(u16),
    /// The proxy answers 200 with this JSON document in the API server's place.
    Say(String),
    /// The request is forwarded this much later.
    Delay(Duration),
    /// The connection is closed without an answer; the request never reaches the API server.
    Reset,
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At the request of this number, counted from 1.
    Number(usize),
    /// At requests of this method whose path holds this text: the first so many, or all.
    Matching {
        /// The method.
        method: Method,
        /// Part of the path, without the query.
        path: String,
        /// How often; `None` for always.
        times: Option<usize>,
    },
}

/// A fault and its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
}

impl Rule {
    /// A fault at the request of a number, counted from 1.
    pub fn at(number: usize, fault: Fault) -> Self {
        Self { when: When::Number(number), fault }
    }

    /// Whether the rule concerns a request; a rule that is limited is used up by it.
    pub(super) fn takes(&mut self, number: usize, method: &Method, path: &str) -> bool {
        match &mut self.when {
            When::Number(at) => *at == number,
            When::Matching { method: wanted, path: part, times } => {
                if wanted != method || !path.contains(part.as_str()) || *times == Some(0) {
                    return false;
                }
                if let Some(times) = times {
                    *times -= 1;
                }
                true
            }
        }
    }
}

/// The `reason` that the API server gives with a status code.
pub(super) fn reason(code: u16) -> &'static str {
    match code {
        403 => "Forbidden",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_take_their_requests_only() {
        let mut third = Rule::at(3, Fault::Reset);
        assert!(third.takes(3, &Method::GET, "/x") && !third.takes(4, &Method::GET, "/x"));
        let when = When::Matching { method: Method::PATCH, path: "/deployments/".into(), times: Some(2) };
        let mut twice = Rule { when, fault: Fault::Answer(503) };
        let path = "/apis/apps/v1/namespaces/n/deployments/a";
        assert!(!twice.takes(1, &Method::GET, path) && !twice.takes(1, &Method::PATCH, "/api/v1/pods/a"));
        assert_eq!([1, 2, 3].map(|number| twice.takes(number, &Method::PATCH, path)), [true, true, false]);
    }
}
