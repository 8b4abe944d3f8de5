//! In which order services are started and stopped: pure.

use std::collections::BTreeSet;

/// Another service that is started before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Its name.
    pub service: String,
    /// The check of it that has to be up; all of them where none is named.
    pub check: Option<String>,
    /// Whether this one is pointless without it: it must be among the services. Otherwise it is waited for where it is.
    pub required: bool,
}

/// Services that cannot be started in any order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two of one name.
    #[error("failed to order the services: {0} is there twice")]
    Twice(String),
    /// A service that is not there.
    #[error("failed to order the services: {service} requires {required}, which is not hosted")]
    Missing {
        /// Whose.
        service: String,
        /// What.
        required: String,
    },
    /// Each waits for another.
    #[error("failed to order the services: {} wait for each other", .0.join(", "))]
    Circle(Vec<String>),
}

/// The places of services in the order of their start: each comes after those that it waits for, and else as given.
pub(crate) fn order(services: &[(&str, &[After])]) -> Result<Vec<usize>, GraphError> {
    let mut names = BTreeSet::new();
    for (name, _) in services {
        if !names.insert(*name) {
            return Err(GraphError::Twice((*name).to_owned()));
        }
    }
    for (name, after) in services {
        if let Some(missing) = after.iter().find(|it| it.required && !names.contains(it.service.as_str())) {
            return Err(GraphError::Missing {
                service: (*name).to_owned(),
                required: missing.service.clone(),
            });
        }
    }
    let (mut order, mut done) = (Vec::new(), BTreeSet::new());
    while order.len() < services.len() {
        let is_next = |(place, (_, after)): &(usize, &(&str, &[After]))| {
            let waits =
                |it: &After| names.contains(it.service.as_str()) && !done.contains(it.service.as_str());
            !order.contains(place) && !after.iter().any(waits)
        };
        let Some((place, (name, _))) = services.iter().enumerate().find(is_next) else {
            let left = services.iter().map(|(name, _)| *name).filter(|name| !done.contains(name));
            return Err(GraphError::Circle(left.map(str::to_owned).collect()));
        };
        order.push(place);
        done.insert(*name);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(services: &[&str], required: bool) -> Vec<After> {
        services.iter().map(|name| After { service: (*name).to_owned(), check: None, required }).collect()
    }

    #[test]
    fn services_start_after_their_dependencies() {
        let (none, on_b, on_a) = (vec![], after(&["b"], true), after(&["a", "absent"], false));
        let services: [(&str, &[After]); 3] = [("c", &on_a), ("a", &on_b), ("b", &none)];
        assert_eq!(order(&services), Ok(vec![2, 1, 0]));
    }

    #[test]
    fn ordering_errors_have_a_cause() {
        let (on_a, on_b, none) = (after(&["a"], true), after(&["b"], true), vec![]);
        let twice: [(&str, &[After]); 2] = [("a", &none), ("a", &none)];
        assert_eq!(order(&twice), Err(GraphError::Twice("a".to_owned())));
        let missing: [(&str, &[After]); 1] = [("a", &on_b)];
        let error = order(&missing).unwrap_err();
        assert_eq!(error.to_string(), "failed to order the services: a requires b, which is not hosted");
        let circle: [(&str, &[After]); 3] = [("a", &on_b), ("b", &on_a), ("c", &none)];
        assert_eq!(order(&circle), Err(GraphError::Circle(vec!["a".to_owned(), "b".to_owned()])));
    }
}
