//! The programs of a cluster and of its images, each from one Go package.

/// A program that can be built.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Folder under `integration/cluster`.
    pub folder: &'static str,
    /// Name of the program.
    pub program: &'static str,
    /// The module whose version is the program's; empty for a program of our own.
    pub module: &'static str,
    /// The package to build.
    pub package: &'static str,
}

pub(super) const KUBERNETES: &str = "k8s.io/kubernetes";
const TRAINER: &str = "github.com/kubeflow/trainer/v2";

const fn kubernetes(program: &'static str, package: &'static str) -> Part {
    Part { folder: "kubernetes", program, module: KUBERNETES, package }
}

/// The store.
pub static ETCD: Part = Part {
    folder: "etcd",
    program: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    package: "go.etcd.io/etcd/server/v3",
};
/// The API server.
pub static KUBE_APISERVER: Part = kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
/// Kubernetes' own controllers.
pub static KUBE_CONTROLLER_MANAGER: Part =
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
/// The command line client.
pub static KUBECTL: Part = kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
/// The scheduler.
pub static KUBE_SCHEDULER: Part = kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");
/// What runs pods.
pub static KUBELET: Part = kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");
/// What routes ClusterIPs.
pub static KUBE_PROXY: Part = kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");
/// The name service.
pub static COREDNS: Part = Part {
    folder: "coredns",
    program: "coredns",
    module: "github.com/coredns/coredns",
    package: "github.com/coredns/coredns",
};
/// JobSet's controller, 0.11.1.
pub static JOBSET_0_11_1: Part = jobset("jobset-0.11.1");
/// JobSet's controller, 0.12.0.
pub static JOBSET_0_12_0: Part = jobset("jobset-0.12.0");
/// LeaderWorkerSet's controller, 0.8.0.
pub static LWS_0_8_0: Part = Part {
    folder: "lws-0.8.0",
    program: "manager",
    module: "sigs.k8s.io/lws",
    package: "sigs.k8s.io/lws/cmd",
};
/// Upstream's Trainer controller, 2.2.1.
pub static TRAINER_2_2_1: Part = trainer("trainer-2.2.1");
/// Upstream's Trainer controller, 2.3.0.
pub static TRAINER_2_3_0: Part = trainer("trainer-2.3.0");

/// Juju's own hook tools over a world in a file, for tests of the charm.
pub static HOOK_TOOL: Part = juju("hook-tool", "./hook-tool");
/// Juju's own reader of charm files.
pub static READ_CHARM: Part = juju("read-charm", "./read-charm");
/// The service manager of workload containers.
pub static PEBBLE: Part = Part {
    folder: "pebble",
    program: "pebble",
    module: "github.com/canonical/pebble",
    package: "github.com/canonical/pebble/cmd/pebble",
};

const fn juju(program: &'static str, package: &'static str) -> Part {
    Part { folder: "juju", program, module: "", package }
}

const fn jobset(folder: &'static str) -> Part {
    Part { folder, program: "manager", module: "sigs.k8s.io/jobset", package: "sigs.k8s.io/jobset" }
}

const fn trainer(folder: &'static str) -> Part {
    Part {
        folder,
        program: "manager",
        module: TRAINER,
        package: "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager",
    }
}

/// The S3 server that tests fetch from: Versity's gateway over a folder.
pub static VERSITYGW: Part = Part {
    folder: "versitygw",
    program: "versitygw",
    module: "github.com/versity/versitygw",
    package: "github.com/versity/versitygw/cmd/versitygw",
};

/// The server of Google Cloud Storage that tests fetch from.
pub static FAKE_GCS_SERVER: Part = Part {
    folder: "fake-gcs-server",
    program: "fake-gcs-server",
    module: "github.com/fsouza/fake-gcs-server",
    package: "github.com/fsouza/fake-gcs-server",
};

/// What holds a pod's namespaces, in our own ten lines.
pub static PAUSE: Part = standin("pause", "./pause");
/// What stands in for a training program; its source says what it does.
pub static SLEEP_TRAIN: Part = standin("sleep-train", "./sleep-train");

const fn standin(program: &'static str, package: &'static str) -> Part {
    Part { folder: "standin-images", program, module: "", package }
}
