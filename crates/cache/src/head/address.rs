//! Where workers are.

use std::fmt;

use crate::config::Lookup;

/// Port of a worker in a cluster.
const PORT: u16 = 50051;

/// A worker's host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(formatter, "[{}]:{}", self.host, self.port);
        }
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// Workers cannot be told from the environment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither in a LeaderWorkerSet nor on one machine.
    #[error(
        "LWS_LEADER_ADDRESS and LWS_GROUP_SIZE environment variables must be set; a LeaderWorkerSet sets them, and \
         RUNTIME_ENV=local stands for two workers on this machine"
    )]
    NoGroup,
    /// A size that is no number, or one without workers.
    #[error(
        "invalid value {0:?} of LWS_GROUP_SIZE; must be a number of pods, at least 2: the head and its workers"
    )]
    Size(String),
    /// An address without a name.
    #[error("invalid value {0:?} of LWS_LEADER_ADDRESS; must be a host name")]
    Leader(String),
}

/// The workers of a group, in the order of their ids.
pub fn addresses(lookup: Lookup<'_>) -> Result<Vec<Address>, Error> {
    // Upstream asks only whether it is set.
    if lookup("RUNTIME_ENV").is_some() {
        let local = |port| Address { host: "localhost".to_owned(), port };
        return Ok(vec![local(50052), local(50053)]);
    }
    let (Some(leader), Some(size)) = (lookup("LWS_LEADER_ADDRESS"), lookup("LWS_GROUP_SIZE")) else {
        return Err(Error::NoGroup);
    };
    let workers = size.parse::<u32>().ok().filter(|size| *size >= 2).ok_or(Error::Size(size))?;
    let (first, rest) = leader.split_once('.').unwrap_or((&leader, ""));
    if first.is_empty() {
        return Err(Error::Leader(leader.clone()));
    }
    let host = |number| match rest {
        "" => format!("{first}-{number}"),
        rest => format!("{first}-{number}.{rest}"),
    };
    Ok((1..workers).map(|number| Address { host: host(number), port: PORT }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Vec<String>, Error> {
        let lookup = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        addresses(&lookup).map(|all| all.iter().map(Address::to_string).collect())
    }

    #[test]
    fn workers_have_the_names_that_their_group_gives_them() {
        assert_eq!(
            of(&[("LWS_LEADER_ADDRESS", "j-cache-0.j-cache.ns1"), ("LWS_GROUP_SIZE", "3")]).unwrap(),
            ["j-cache-0-1.j-cache.ns1:50051", "j-cache-0-2.j-cache.ns1:50051"]
        );
        assert_eq!(of(&[("RUNTIME_ENV", "")]).unwrap(), ["localhost:50052", "localhost:50053"]);
        assert_eq!(of(&[]), Err(Error::NoGroup));
        for size in ["1", "0", "x", ""] {
            let group = [("LWS_LEADER_ADDRESS", "a.b"), ("LWS_GROUP_SIZE", size)];
            assert_eq!(of(&group), Err(Error::Size(size.to_owned())));
        }
        assert_eq!(
            of(&[("LWS_LEADER_ADDRESS", ".b"), ("LWS_GROUP_SIZE", "2")]),
            Err(Error::Leader(".b".to_owned()))
        );
    }
}
