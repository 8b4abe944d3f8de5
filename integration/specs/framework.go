// Package framework takes the place of the one of Kubeflow Trainer's own integration suites: instead of a manager in the
// process of the tests, it starts the program that TRAINERD_BIN names, as a cluster would.
package framework

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	jobsetv1alpha2 "sigs.k8s.io/jobset/api/jobset/v1alpha2"
	schedulerpluginsv1alpha1 "sigs.k8s.io/scheduler-plugins/apis/scheduling/v1alpha1"
	volcanov1beta1 "volcano.sh/apis/pkg/apis/scheduling/v1beta1"

	trainer "github.com/kubeflow/trainer/v2/pkg/apis/trainer/v1alpha1"
)

// start is how long the program may take to be ready, and stop how long to end, on a busy machine.
const (
	start = time.Minute
	stop  = 15 * time.Second
)

// Framework is an API server, and the program under test.
type Framework struct {
	environment *envtest.Environment
	process     *exec.Cmd
	cancel      context.CancelFunc
}

// Init starts the API server, with the CRDs and webhook configurations of upstream's checkout.
func (f *Framework) Init() *rest.Config {
	manifests := func(parts ...string) string {
		return filepath.Join(append([]string{"..", "..", "..", "manifests"}, parts...)...)
	}
	f.environment = &envtest.Environment{
		CRDDirectoryPaths: []string{
			manifests("base", "crds"),
			manifests("external-crds", "scheduler-plugins", "crd.yaml"),
			manifests("external-crds", "volcano", "scheduling.volcano.sh_podgroups.yaml"),
			manifests("external-crds", "jobset-operator"),
		},
		WebhookInstallOptions: envtest.WebhookInstallOptions{
			Paths: []string{manifests("base", "webhook", "manifests.yaml")},
		},
		ErrorIfCRDPathMissing: true,
	}
	config, err := f.environment.Start()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return config
}

// RunManager starts the program and waits until it is ready. Without controllers, another holds its lease.
func (f *Framework) RunManager(config *rest.Config, startControllers bool) (context.Context, client.Client) {
	for _, add := range []func() error{
		func() error { return trainer.AddToScheme(scheme.Scheme) },
		func() error { return jobsetv1alpha2.AddToScheme(scheme.Scheme) },
		func() error { return schedulerpluginsv1alpha1.AddToScheme(scheme.Scheme) },
		func() error { return volcanov1beta1.AddToScheme(scheme.Scheme) },
	} {
		gomega.Expect(add()).To(gomega.Succeed())
	}
	reader, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel

	folder := ginkgo.GinkgoT().TempDir()
	webhooks := f.environment.WebhookInstallOptions
	certificates := filepath.Join(folder, "k8s-webhook-server", "serving-certs")
	gomega.Expect(os.MkdirAll(certificates, 0o755)).To(gomega.Succeed())
	for _, name := range []string{"tls.crt", "tls.key"} {
		text, err := os.ReadFile(filepath.Join(webhooks.LocalServingCertDir, name))
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(os.WriteFile(filepath.Join(certificates, name), text, 0o600)).To(gomega.Succeed())
	}
	health := freeAddress()
	text := fmt.Sprintf(`apiVersion: config.trainer.kubeflow.org/v1alpha1
kind: Configuration
webhook: {host: %q, port: %d}
health: {healthProbeBindAddress: %q}
metrics: {bindAddress: "0"}
certManagement: {enable: false}
`, webhooks.LocalServingHost, webhooks.LocalServingPort, health)
	if mode := os.Getenv("TRAINERD_COMPATIBILITY"); mode != "" {
		text += fmt.Sprintf("compatibility: %s\n", mode)
	}
	if !startControllers {
		f.holdLease(ctx, reader)
		text += `leaderElection: {leaderElect: true, resourceName: specs, resourceNamespace: default, resourceLock: leases,
  leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s}
`
	}
	f.run(folder, text)
	gomega.Eventually(func(g gomega.Gomega) {
		answer, err := http.Get("http://" + health + "/readyz")
		g.Expect(err).NotTo(gomega.HaveOccurred())
		defer func() { _ = answer.Body.Close() }()
		g.Expect(answer.StatusCode).To(gomega.Equal(http.StatusOK))
	}, start, 50*time.Millisecond).Should(gomega.Succeed())
	return ctx, reader
}

// run starts the program in a folder, with a configuration.
func (f *Framework) run(folder, config string) {
	files := map[string][]byte{"config.yaml": []byte(config), "kubeconfig": f.environment.KubeConfig}
	for name, text := range files {
		gomega.Expect(os.WriteFile(filepath.Join(folder, name), text, 0o600)).To(gomega.Succeed())
	}
	program := os.Getenv("TRAINERD_BIN")
	gomega.Expect(program).NotTo(gomega.BeEmpty(), "TRAINERD_BIN names the program")
	f.process = exec.Command(program, "--config="+filepath.Join(folder, "config.yaml"), "--zap-log-level=2")
	// The same program is a command line; this is its name as the controller.
	f.process.Args[0] = "manager"
	f.process.Dir = folder
	f.process.Env = []string{"KUBECONFIG=" + filepath.Join(folder, "kubeconfig"), "TMPDIR=" + folder, "HOME=" + folder}
	f.process.Stdout, f.process.Stderr = ginkgo.GinkgoWriter, ginkgo.GinkgoWriter
	gomega.Expect(f.process.Start()).To(gomega.Succeed())
}

// holdLease is somebody else who leads for as long as the suite takes.
func (f *Framework) holdLease(ctx context.Context, writer client.Client) {
	now, holder, seconds := metav1.NowMicro(), "somebody_else", int32(3600)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "specs", Namespace: metav1.NamespaceDefault},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now,
		},
	}
	gomega.Expect(client.IgnoreAlreadyExists(writer.Create(ctx, lease))).To(gomega.Succeed())
}

// Teardown ends the program, which must do so in good order, and the API server. Some suites call it twice.
func (f *Framework) Teardown() {
	if f.environment == nil {
		return
	}
	if f.process != nil {
		gomega.Expect(f.process.Process.Signal(syscall.SIGTERM)).To(gomega.Succeed())
		ended := make(chan error, 1)
		go func() { ended <- f.process.Wait() }()
		select {
		case err := <-ended:
			gomega.Expect(err).NotTo(gomega.HaveOccurred())
		case <-time.After(stop):
			_ = f.process.Process.Kill()
			ginkgo.Fail("the program did not end in time")
		}
	}
	if f.cancel != nil {
		f.cancel()
	}
	gomega.Expect(f.environment.Stop()).To(gomega.Succeed())
	f.environment, f.process = nil, nil
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
