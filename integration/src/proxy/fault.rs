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
    /// The API server answers, but the connection is closed before the answer has passed.
    Lose,
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
    /// At each request whose number so many divide: the first so many, or all.
    Each {
        /// The divisor; with 1 it is every request.
        of: usize,
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
    pub(super) fn matches_request(&mut self, number: usize, method: &Method, path: &str) -> bool {
        match &mut self.when {
            When::Number(at) => *at == number,
            When::Matching { method: wanted, path: part, times } => {
                wanted == method && path.contains(part.as_str()) && take_one(times)
            }
            When::Each { of, times } => number.is_multiple_of(*of) && take_one(times),
        }
    }
}

/// Takes one of those that are left, where they are counted.
fn take_one(times: &mut Option<usize>) -> bool {
    match times {
        None => true,
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
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
    fn fault_rules_match_only_their_requests() {
        let mut third = Rule::at(3, Fault::Reset);
        assert!(
            third.matches_request(3, &Method::GET, "/x") && !third.matches_request(4, &Method::GET, "/x")
        );
        let when = When::Matching { method: Method::PATCH, path: "/deployments/".into(), times: Some(2) };
        let mut twice = Rule { when, fault: Fault::Answer(503) };
        let path = "/apis/apps/v1/namespaces/n/deployments/a";
        assert!(
            !twice.matches_request(1, &Method::GET, path)
                && !twice.matches_request(1, &Method::PATCH, "/api/v1/pods/a")
        );
        assert_eq!(
            [1, 2, 3].map(|number| twice.matches_request(number, &Method::PATCH, path)),
            [true, true, false]
        );
        let mut third = Rule { when: When::Each { of: 3, times: Some(2) }, fault: Fault::Lose };
        let taken: Vec<usize> =
            (1..13).filter(|number| third.matches_request(*number, &Method::GET, path)).collect();
        assert_eq!(taken, [3, 6]);
    }
}
