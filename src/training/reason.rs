//! Why a TrainJob does not run, in one word: what metrics count and alerts tell apart.

use serde::Serialize;

/// What keeps a TrainJob from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Reason {
    /// The controller could not create what it consists of.
    NotCreated,
    /// It has no pods yet.
    NoPods,
    /// Its pods are starting.
    Starting,
    /// The scheduler finds no node for a pod.
    Unschedulable,
    /// An image cannot be pulled.
    ImagePull,
    /// A container cannot be made: a ConfigMap or Secret is missing, say.
    ContainerConfig,
    /// The node of a pod is not ready.
    NodeNotReady,
    /// A pod was preempted or evicted.
    Disrupted,
    /// A container ended for it needed more memory than its limit.
    OutOfMemory,
    /// A container ended with an error.
    ContainerFailed,
    /// Anything else that a pod's status says.
    Other,
}

impl Reason {
    /// Every one of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::NotCreated,
        Self::NoPods,
        Self::Starting,
        Self::Unschedulable,
        Self::ImagePull,
        Self::ContainerConfig,
        Self::NodeNotReady,
        Self::Disrupted,
        Self::OutOfMemory,
        Self::ContainerFailed,
        Self::Other,
    ];

    /// The word for it, as JSON and metrics have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotCreated => "NotCreated",
            Self::NoPods => "NoPods",
            Self::Starting => "Starting",
            Self::Unschedulable => "Unschedulable",
            Self::ImagePull => "ImagePull",
            Self::ContainerConfig => "ContainerConfig",
            Self::NodeNotReady => "NodeNotReady",
            Self::Disrupted => "Disrupted",
            Self::OutOfMemory => "OutOfMemory",
            Self::ContainerFailed => "ContainerFailed",
            Self::Other => "Other",
        }
    }

    /// Why a container waits, by the reason that the kubelet gives.
    pub(super) fn of_waiting(reason: &str) -> Self {
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Self::ImagePull,
            "CreateContainerConfigError" | "CreateContainerError" => Self::ContainerConfig,
            _ => Self::Other,
        }
    }

    /// Why a pod is over that did not end by itself, by the reason in its status.
    pub(super) fn of_end(reason: &str) -> Self {
        match reason {
            "Evicted" | "NodeLost" | "NodeShutdown" | "Preempting" | "Terminated" => Self::Disrupted,
            _ => Self::Other,
        }
    }

    /// Which of the pods of a TrainJob is told: one that ended before one that was preempted, for which another may wait,
    /// before one that waits, maybe for those.
    pub(super) fn weight(self) -> u8 {
        match self {
            _ if self.is_end() => 2,
            Self::Disrupted => 1,
            _ => 0,
        }
    }

    /// Whether a container ended, and may be started again.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::ContainerFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_metrics_have_the_same_word() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
        }
    }
}
