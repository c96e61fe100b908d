package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a story may take here: the race detector is slow, and
// tests run beside each other.
const patience = 3 * time.Minute

// tellStory builds a world, tells the story, and returns what it reported.
func tellStory(t *testing.T, m mutation) *report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	config, err := options{}.clusters()
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(ctx, config, m.settings)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	s, err := newStory(w, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if m.arm != nil {
		m.arm(s)
	}
	if m.step != "" {
		s.before = func(ctx context.Context, step string) error {
			if step != m.step {
				return nil
			}
			return m.sabotage(ctx, s)
		}
	}
	if err := s.tell(ctx); err != nil {
		t.Fatal(err)
	}
	return &s.report
}

// TestStoryHolds also keeps the table of mutations complete.
func TestStoryHolds(t *testing.T) {
	r := tellStory(t, mutation{})
	var broken []string
	for _, m := range mutations {
		broken = append(broken, m.check)
	}
	slices.Sort(broken)
	if names := r.names(); !slices.Equal(names, broken) {
		t.Errorf("checks: %v\nmutations: %v", names, broken)
	}
	for _, s := range r.Sections {
		if len(s.failed()) > 0 {
			var shown bytes.Buffer
			s.print(&shown)
			t.Error(shown.String())
		}
	}
}

// A mutation breaks one thing. The check that it is named after, and only that
// one, must notice.
type mutation struct {
	check string

	// settings break the world while it is built.
	settings settings
	// sabotage breaks it when a step is prepared and before it is judged.
	step     string
	sabotage func(context.Context, *story) error
	// arm gives those who must be refused what they lack.
	arm func(*story)
}

var mutations = []mutation{
	{check: "views", step: "views", sabotage: removeWestGateway},
	{check: "scope", step: "views", sabotage: shareAudit},
	{check: "names", step: "names", sabotage: moveClusterIP},
	{check: "external-name", step: "names", sabotage: giveExternalAddress},
	failingRequests(),
	{check: "spread", settings: settings{wrapApp: usurpName}},
	{check: "outer-identity", settings: settings{rewrite: renameGatewayAccount}},
	{check: "inner-identity", settings: settings{rewrite: renamePodAccount}},
	{check: "handshakes", settings: settings{maxTunnelAge: time.Millisecond}},
	{check: "sealed", step: "requests", sabotage: leakPayload},
	{check: "control", settings: settings{deafTap: true}},
	{check: "prefer-close", step: "prefer-close", sabotage: restoreBoth},
	{check: "failover", step: "failover", sabotage: restoreEast},
	{check: "unlabelled-client", step: "unlabelled", sabotage: restoreEast},
	{check: "unlabelled-gateway", step: "unlabelled", sabotage: labelInWest},
	{check: "no-certificate", arm: func(s *story) { s.attack.nobody = s.attack.member }},
	{check: "foreign-trust-domain", arm: func(s *story) { s.attack.foreigner = s.attack.member }},
	{check: "not-global", arm: func(s *story) { s.attack.authority = "ratings.app.svc.cluster.local:80" }},
	{check: "denied", step: "refusals", sabotage: removePolicies},
	{check: "static", step: "static", sabotage: closeWestGateway},
}

// fewRequests are enough for every check: that chance leaves one of five pods
// less than half of its share has a probability of less than 1e-9.
const fewRequests = 500

func TestEveryCheckCanFail(t *testing.T) {
	for _, m := range mutations {
		m.settings.requests = fewRequests
		t.Run(m.check, func(t *testing.T) {
			t.Parallel()
			if got := tellStory(t, m).failed(); !slices.Equal(got, []string{m.check}) {
				t.Errorf("checks that failed: %v, want only %s", got, m.check)
			}
		})
	}
}

func removeWestGateway(ctx context.Context, s *story) error {
	err := s.world.clusters[west].dir.deleteEach("Gateway", func(string, string) bool { return true })
	if err != nil {
		return err
	}
	return s.world.await(ctx, "east to lose the gateway", func() bool {
		e := s.entry(east)
		return e != nil && len(see(s.world.clusters[east], e).through) == 0
	})
}

func shareAudit(ctx context.Context, s *story) error {
	err := s.world.clusters[west].dir.set("Service", namespace, "audit", "true", "metadata", "labels", "istio.io/global")
	if err != nil {
		return err
	}
	return s.world.await(ctx, "east to see audit", func() bool {
		return s.world.clusters[east].state.Index().Service("app/audit.app.svc.cluster.local") != nil
	})
}

func moveClusterIP(ctx context.Context, s *story) error {
	const elsewhere = "10.91.0.77"
	err := s.world.clusters[east].dir.edit(func(o object, node *yaml.Node) (bool, error) {
		if o.is("Service", namespace, serviceName) {
			spec := fieldOf(node.Content[0], "spec")
			fieldOf(spec, "clusterIP").SetString(elsewhere)
			fieldOf(spec, "clusterIPs").Content[0].SetString(elsewhere)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return s.awaitName(ctx, serviceName, elsewhere)
}

func giveExternalAddress(ctx context.Context, s *story) error {
	const address = "192.0.2.77"
	err := s.world.clusters[east].dir.edit(func(o object, node *yaml.Node) (bool, error) {
		if o.Kind == "ServiceEntry" {
			spec := fieldOf(node.Content[0], "spec")
			spec.Content = append(spec.Content, scalar("addresses"), &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{scalar(address)}})
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return s.awaitName(ctx, externalHost, address)
}

func (s *story) awaitName(ctx context.Context, name, want string) error {
	return s.world.await(ctx, name+" to be "+want, func() bool {
		got, err := s.lookup(ctx, name)
		return err == nil && slices.Equal(got, []string{want})
	})
}

// failingRequests lets the application of one pod fail a few times.
func failingRequests() mutation {
	var failures atomic.Int32
	return mutation{
		check: "answered",
		settings: settings{wrapApp: func(cluster, pod string, app http.Handler) http.Handler {
			if cluster != west || pod != "reviews-1" {
				return app
			}
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if failures.Add(-1) >= 0 {
					http.Error(w, "broken", http.StatusInternalServerError)
					return
				}
				app.ServeHTTP(w, r)
			})
		}},
		step: "requests",
		sabotage: func(context.Context, *story) error {
			failures.Store(20)
			return nil
		},
	}
}

// usurpName makes one pod answer in the name of another.
func usurpName(cluster, pod string, app http.Handler) http.Handler {
	if cluster != west || pod != "reviews-3" {
		return app
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(answer{Cluster: west, Pod: "reviews-1"})
	})
}

func renameGatewayAccount(dirs map[string]workdir) error {
	return dirs[west].set("Gateway", "istio-system", "istio-eastwestgateway", "usurper", "metadata", "annotations", "gateway.istio.io/service-account")
}

func renamePodAccount(dirs map[string]workdir) error {
	return dirs[west].set("Pod", namespace, "reviews-3", "canary", "spec", "serviceAccountName")
}

// leakPayload feeds the tap from outside of the tunnel.
func leakPayload(_ context.Context, s *story) error {
	s.leak = func() { s.world.tap.Write([]byte(payload)) }
	return nil
}

func restoreBoth(ctx context.Context, s *story) error { return s.world.restore(ctx) }

// restoreEast brings east's objects back, its own pods among them.
func restoreEast(ctx context.Context, s *story) error {
	c := s.world.clusters[east]
	if _, err := c.revert(); err != nil {
		return err
	}
	if err := c.syncApps(ctx); err != nil {
		return err
	}
	return s.world.await(ctx, "east's pods to be back", func() bool {
		e := s.entry(east)
		return e != nil && len(see(c, e).direct) == 2 && c.proxy.Ready()
	})
}

func labelInWest(ctx context.Context, s *story) error {
	c := s.world.clusters[west]
	if err := c.dir.set("Service", namespace, serviceName, "true", "metadata", "labels", "istio.io/global"); err != nil {
		return err
	}
	return s.world.await(ctx, "west's gateway to serve it again", func() bool {
		return c.gatewayState.Index().ServiceByHostname(s.service, "") != nil
	})
}

func removePolicies(ctx context.Context, s *story) error {
	for _, c := range s.world.sorted() {
		if err := c.dir.deleteEach("AuthorizationPolicy", func(string, string) bool { return true }); err != nil {
			return err
		}
	}
	return s.world.await(ctx, "the policies to be gone", func() bool {
		for _, c := range s.world.sorted() {
			w := c.state.Index().Workload(c.name + "//Pod/app/reviews-1")
			if c.state.Policies().Len() > 0 || w == nil || len(w.AuthorizationPolicies) > 0 {
				return false
			}
		}
		return true
	})
}

func closeWestGateway(_ context.Context, s *story) error {
	return s.world.clusters[west].gateway.Close()
}

func TestRun(t *testing.T) {
	clusters := t.TempDir()
	if err := os.CopyFS(clusters, os.DirFS("clusters")); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.CopyFS(broken, os.DirFS("clusters")); err != nil {
		t.Fatal(err)
	}
	apps := filepath.Join(broken, west, "apps.yaml")
	data, err := os.ReadFile(apps)
	if err != nil {
		t.Fatal(err)
	}
	line := 1 + bytes.Count(data[:bytes.Index(data, []byte("serviceAccountName"))], []byte("\n"))
	if err := os.WriteFile(apps, bytes.Replace(data, []byte("serviceAccountName"), []byte("serviceAcountName"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		status int
		stdout string
		stderr string
	}{
		{"help", []string{"-h"}, 0, "", "-config"},
		{"unknown flag", []string{"-x"}, 2, "", "not defined"},
		{"argument", []string{"east"}, 2, "", `unexpected argument "east"`},
		{"no directory", []string{"-config", "nowhere"}, 1, "", "nowhere/east: no such file"},
		{"bad object", []string{"-config", broken}, 1, "", fmt.Sprintf("west/apps.yaml:%d:", line)},
		{"no time", []string{"-timeout", "1ms"}, 1, "", "longer than 1ms"},
		{"own directory, JSON", []string{"-config", clusters, "-json", "-timeout", patience.String()}, 0, `"name": "sealed"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"-log-level", "error"}, tt.args...)
			if got := run(t.Context(), args, &stdout, &stderr); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			if !strings.Contains(stdout.String(), tt.stdout) {
				t.Errorf("stdout has no %q:\n%s", tt.stdout, &stdout)
			}
			if !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("stderr has no %q:\n%s", tt.stderr, &stderr)
			}
			if slices.Contains(tt.args, "-json") && !json.Valid(stdout.Bytes()) {
				t.Errorf("stdout is not JSON:\n%s", &stdout)
			}
		})
	}
}
