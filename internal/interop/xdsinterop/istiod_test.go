package xdsinterop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"istio.io/istio/pilot/pkg/features"
	istioxds "istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/kube/kclient/clienttest"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/endpoints/wds"
	"github.com/eastwest-mesh/eastwest/endpoints/xds"
)

// Once for all: servers of earlier tests still read it.
func init() { features.EnableAmbient = true }

// patience bounds waits for something that must happen.
const patience = time.Minute

// istiod is Istio's server, reached over a link that can be cut.
type istiod struct {
	*istioxds.FakeDiscoveryServer
	t     *testing.T
	pods  clienttest.TestWriter[*corev1.Pod]
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func startIstiod(t *testing.T, objects ...runtime.Object) *istiod {
	s := istioxds.NewFakeDiscoveryServer(t, istioxds.FakeOptions{KubernetesObjects: objects})
	return &istiod{FakeDiscoveryServer: s, t: t, pods: clienttest.NewWriter[*corev1.Pod](t, s.KubeClient())}
}

func (s *istiod) dial() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///istiod", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.down {
				return nil, errors.New("the link is cut")
			}
			c, err := s.BufListener.DialContext(ctx)
			if err == nil {
				s.conns = append(s.conns, c)
			}
			return c, err
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (s *istiod) link(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down = !up; s.down {
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.conns = nil
	}
}

func pod(name, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "app", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"ambient.istio.io/redirection": "enabled"},
		},
		Spec: corev1.PodSpec{ServiceAccountName: "web", NodeName: "node"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "app"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

// held is what a client has been told.
type held struct {
	mu      sync.Mutex
	changed chan struct{}
	all     map[string]endpoints.Resource
	bodies  map[string][]byte
	log     []string
	refuse  func(name string) error
}

func newHeld() *held {
	return &held{changed: make(chan struct{}), all: map[string]endpoints.Resource{}, bodies: map[string][]byte{}}
}

func (h *held) handle(u xds.Update) map[string]error {
	h.mu.Lock()
	defer h.mu.Unlock()
	rejected := map[string]error{}
	for _, name := range u.Removals {
		delete(h.all, name)
		h.log = append(h.log, "-"+name)
	}
	for _, r := range u.Upserts {
		res, err := wds.DecodeAddress(r.Name, r.Body)
		if err == nil && h.refuse != nil {
			err = h.refuse(r.Name)
		}
		if err != nil {
			rejected[r.Name] = err
			continue
		}
		h.all[r.Name], h.bodies[r.Name] = res, r.Body
		h.log = append(h.log, "+"+r.Name)
	}
	close(h.changed)
	h.changed = make(chan struct{})
	return rejected
}

func (h *held) await(t *testing.T, names ...string) {
	t.Helper()
	slices.Sort(names)
	timeout := time.After(patience)
	for {
		h.mu.Lock()
		got, changed := slices.Sorted(maps.Keys(h.all)), h.changed
		h.mu.Unlock()
		if slices.Equal(got, names) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("holds %q, want %q", got, names)
		}
	}
}

// takeLog returns what came since the last call.
func (h *held) takeLog() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.Sort(h.log)
	log := strings.Join(h.log, " ")
	h.log = nil
	return log
}

func run(t *testing.T, c *xds.Client) {
	t.Helper()
	c.Node = xds.Node{ID: "ztunnel~1.1.1.1~z.istio-system~istio-system.svc.cluster.local", Metadata: map[string]any{
		"NAMESPACE": "istio-system", "NODE_NAME": "node", "CLUSTER_ID": "Kubernetes",
	}}
	c.MinBackoff, c.MaxBackoff = time.Millisecond, 50*time.Millisecond
	done := make(chan error, 1)
	go func() { done <- c.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = c.Close()
		if err := <-done; !errors.Is(err, xds.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}

const (
	webService = "app/web.app.svc.cluster.local"
	one        = "Kubernetes//Pod/app/one"
	two        = "Kubernetes//Pod/app/two"
	three      = "Kubernetes//Pod/app/three"
)

func TestClientFollowsIstiod(t *testing.T) {
	s := startIstiod(t, pod("one", "10.0.0.1"), pod("two", "10.0.0.2"), service())
	h := newHeld()
	c := &xds.Client{Conn: s.dial(), Types: []xds.Type{
		{URL: wds.AddressTypeURL, Handle: h.handle},
		{URL: wds.AuthorizationTypeURL, Handle: func(xds.Update) map[string]error { return nil }},
	}}
	run(t, c)
	for _, url := range []string{wds.AddressTypeURL, wds.AuthorizationTypeURL} {
		select {
		case <-c.Synced(url):
		case <-time.After(patience):
			t.Fatalf("%s: not synced: %+v", url, c.Status())
		}
	}
	h.await(t, one, two, webService)
	w := h.all[one].Workload
	if w.Addresses[0] != netip.MustParseAddr("10.0.0.1") || w.Tunnel != endpoints.TunnelHBONE || w.ServiceAccount != "web" || w.Health != endpoints.Healthy {
		t.Errorf("workload %+v", w)
	}
	if _, ok := w.Ports(webService); !ok {
		t.Errorf("%s does not back %s: %+v", one, webService, w.Services)
	}
	for name, r := range h.all {
		if body, err := wds.EncodeAddress(r); err != nil || !bytes.Equal(body, h.bodies[name]) {
			t.Errorf("%s encodes to %x, %v; istiod sent %x", name, body, err, h.bodies[name])
		}
	}
	h.takeLog()

	s.pods.Create(pod("three", "10.0.0.3"))
	h.await(t, one, two, three, webService)
	if got := h.takeLog(); got != "+"+three {
		t.Errorf("a new pod came as %q", got)
	}
	s.pods.Delete("two", "app")
	h.await(t, one, three, webService)

	// What changes while the link is cut, and nothing else, comes after.
	h.takeLog()
	s.link(false)
	s.pods.Delete("one", "app")
	s.pods.Create(pod("two", "10.0.0.2"))
	s.link(true)
	h.await(t, two, three, webService)
	if got, want := h.takeLog(), "+"+two+" -"+one; got != want {
		t.Errorf("after the cut came %q, want %q", got, want)
	}
}

// TestClientRefusesPart refuses one resource: istiod goes on, and sends it again after a reconnect.
func TestClientRefusesPart(t *testing.T) {
	s := startIstiod(t, pod("one", "10.0.0.1"), pod("two", "10.0.0.2"))
	h := newHeld()
	bad := true
	h.refuse = func(name string) error { // called with h locked
		if name == two && bad {
			return errors.New("not today")
		}
		return nil
	}
	c := &xds.Client{Conn: s.dial(), Types: []xds.Type{{URL: wds.AddressTypeURL, Handle: h.handle}}}
	run(t, c)
	h.await(t, one)
	s.pods.Create(pod("three", "10.0.0.3"))
	h.await(t, one, three)
	h.mu.Lock()
	bad = false
	h.mu.Unlock()
	s.link(false)
	s.link(true)
	h.await(t, one, two, three)
}

func TestClientAsksIstiodOnDemand(t *testing.T) {
	s := startIstiod(t, pod("one", "10.0.0.1"), service())
	h := newHeld()
	c := &xds.Client{Conn: s.dial(), Types: []xds.Type{{URL: wds.AddressTypeURL, OnDemand: true, Handle: h.handle}}}
	run(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, want := range map[string]bool{
		"/10.96.0.1": true, // the service, by its address on the network without a name
		one:          true,
		"/10.0.0.99": false,
	} {
		if found, err := c.Fetch(ctx, wds.AddressTypeURL, name); err != nil || found != want {
			t.Errorf("%s: found %v, %v, want %v", name, found, err, want)
		}
	}
	h.await(t, one, webService)
	// A pod that comes to back the service comes along, also after a cut.
	s.link(false)
	s.link(true)
	s.pods.Create(pod("two", "10.0.0.2"))
	h.await(t, one, two, webService)
}

// TestClientHoldsMoreThanARequest reconnects with more pods than fit into a request: istiod knows nothing of
// further requests, so it sends the rest again, and what is gone goes.
func TestClientHoldsMoreThanARequest(t *testing.T) {
	var objects []runtime.Object
	var names []string
	for i := range 200 {
		name := fmt.Sprintf("pod-%03d", i)
		objects = append(objects, pod(name, fmt.Sprintf("10.0.1.%d", i)))
		names = append(names, "Kubernetes//Pod/app/"+name)
	}
	s := startIstiod(t, objects...)
	h := newHeld()
	c := &xds.Client{Conn: s.dial(), Types: []xds.Type{{URL: wds.AddressTypeURL, Handle: h.handle}}, MaxRequestBytes: 4000}
	run(t, c)
	h.await(t, names...)
	s.link(false)
	s.pods.Delete("pod-000", "app") // listed
	s.pods.Delete("pod-199", "app") // not listed
	s.link(true)
	h.await(t, names[1:199]...)
	if st := c.Status(); st.Types[0].Rejected > 0 {
		t.Errorf("status %+v", st)
	}
}
