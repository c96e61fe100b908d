package examples

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// patience is how long a process may take for what it was asked to do.
const patience = time.Minute

// TestProcesses runs the three programs for two clusters as separate processes,
// with the very flags that the README shows, and sends requests across.
func TestProcesses(t *testing.T) {
	d := newDeployment(t)
	for _, c := range d.clusters {
		d.startIstiod(c)
	}
	for _, c := range d.clusters {
		d.startGateway(c)
		d.startApps(c)
		d.startZtunnel(c)
	}

	// The pods behind a gateway are found one after the other, while requests go on.
	d.awaitAnswers("http://reviews.app/", "reviews-1.east", "reviews-2.east", "reviews-1.west", "reviews-2.west", "reviews-3.west")
	if got := d.get("http://ratings.app/"); got != "ratings-1.west" {
		t.Errorf("ratings, which only west has, was answered by %q", got)
	}

	// East's pods go away while everything runs; the watched directory says so.
	d.remove(d.clusters[0], "apps.yaml", "reviews-1", "reviews-2")
	d.await("all answers to come from west", func() bool {
		for range 20 {
			if !strings.HasSuffix(d.get("http://reviews.app/"), ".west") {
				return false
			}
		}
		return true
	})
}

// TestFederatedMeshes has two clusters with nothing in common: a root and a
// trust domain of its own each. Their proxies fetch the other's roots.
func TestFederatedMeshes(t *testing.T) {
	d := newDeployment(t)
	for _, c := range d.clusters {
		c.trustDomain = c.name + ".example"
		d.replace(c, "mesh.yaml", "trustDomain: cluster.local", "trustDomain: "+c.trustDomain)
		d.replace(c, "policy.yaml", "cluster.local/ns/app/sa/client", "east.example/ns/app/sa/client")
		d.startIstiod(c)
	}
	for _, c := range d.clusters {
		d.startGateway(c)
		d.startApps(c)
		d.startZtunnel(c)
	}
	// West's proxies may not have fetched east's roots yet.
	d.await("an answer from west", func() bool { return d.get("http://ratings.app/") == "ratings-1.west" })
	d.awaitAnswers("http://reviews.app/", "reviews-1.east", "reviews-2.east", "reviews-1.west", "reviews-2.west", "reviews-3.west")
}

type testCluster struct {
	name, network, gateway string
	trustDomain            string            // of a mesh of its own; empty: both are one mesh
	bundle                 string            // URL of its roots, of such a mesh
	apps                   map[string]string // address by pod
	istiod                 string            // host:port
}

// A deployment is two clusters of processes, which share a directory.
type deployment struct {
	t        *testing.T
	dir, bin string
	clusters []*testCluster
	socks    string // where the caller's SOCKS5 port is exposed
}

func newDeployment(t *testing.T) *deployment {
	d := &deployment{t: t, dir: t.TempDir(), clusters: []*testCluster{
		{name: "east", network: "east-network", gateway: "172.18.1.100:15008", apps: map[string]string{
			"reviews-1": "10.1.0.10:8080", "reviews-2": "10.1.0.11:8080",
		}},
		{name: "west", network: "west-network", gateway: "172.18.2.100:15008", apps: map[string]string{
			"reviews-1": "10.1.0.10:8080", "reviews-2": "10.1.0.11:8080", "reviews-3": "10.1.0.13:8080", "ratings-1": "10.1.0.14:8080",
		}},
	}}
	if err := os.CopyFS(filepath.Join(d.dir, "clusters"), os.DirFS("mesh/clusters")); err != nil {
		t.Fatal(err)
	}
	d.bin = filepath.Join(d.dir, "bin") + string(filepath.Separator)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", d.bin, "./istiod", "./gateway", "./ztunnel", "./echo")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return d
}

func (d *deployment) startIstiod(c *testCluster) {
	other := d.clusters[0]
	if other == c {
		other = d.clusters[1]
	}
	args := []string{"-cluster", c.name, "-config", "clusters/" + c.name,
		"-remote", other.name + "=clusters/" + other.name, "-state", "state/" + c.name, "-listen", "127.0.0.1:0"}
	if c.trustDomain == "" {
		args = append(args, "-ca", "state/ca")
	} else {
		args = append(args, "-bundle", "127.0.0.1:0")
	}
	serves := d.start("istiod", "serves on ([0-9.:]+)(?:, roots on (https://[0-9.:]+/))?", args...)
	c.istiod, c.bundle = serves[1], serves[2]
}

func (d *deployment) startGateway(c *testCluster) {
	d.start("gateway", "serves "+regexp.QuoteMeta(c.gateway), append(d.common(c, "istio-eastwestgateway"), "-listen", c.gateway)...)
}

func (d *deployment) startZtunnel(c *testCluster) {
	node := c.name + "-node"
	args := append(d.common(c, "ztunnel."+node), "-node", node, "-expose", "127.0.0.1:0=10.1.0.20:15080")
	if c.name != "east" {
		args = args[:len(args)-2] // the caller is in east
	}
	out := d.start("ztunnel", "(?s)(?:passes ([0-9.:]+) on.*)?serves its pods", args...)
	if out[1] != "" {
		d.socks = out[1]
	}
}

func (d *deployment) common(c *testCluster, account string) []string {
	args := []string{
		"-cluster", c.name, "-network", c.network, "-xds-address", c.istiod,
		"-root-cert", "state/" + c.name + "/root-cert.pem", "-token", "state/" + c.name + "/tokens/" + c.name + ".istio-system." + account,
		"-podnet", "run/" + c.name, "-underlay", "run/underlay",
	}
	if c.trustDomain == "" {
		return args
	}
	for _, other := range d.clusters {
		if other != c {
			args = append(args, "-federate", other.trustDomain+"="+other.bundle, "-federation-roots", "state/"+other.name+"/root-cert.pem")
		}
	}
	return append(args, "-trust-domain", c.trustDomain)
}

func (d *deployment) startApps(c *testCluster) {
	for pod, address := range c.apps {
		d.start("echo", "listens on", "-name", pod+"."+c.name, "-listen", address, "-podnet", "run/"+c.name, "-underlay", "run/underlay")
	}
}

// start runs a program until the test ends, and waits until its output matches.
func (d *deployment) start(program, ready string, args ...string) []string {
	d.t.Helper()
	cmd := exec.Command(d.bin+program, args...)
	cmd.Dir = d.dir
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	stderr := &lines{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	matched := make(chan []string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		find(stdout, regexp.MustCompile(ready), matched)
	}()
	d.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-read
		if err := cmd.Wait(); err != nil {
			d.t.Errorf("%s %v: %v\n%s", program, args, err, stderr)
		}
	})
	select {
	case m := <-matched:
		return m
	case <-read:
	case <-time.After(patience):
	}
	d.t.Fatalf("%s %v is not ready\n%s", program, args, stderr)
	return nil
}

// find reads all of r and sends the first match of what came so far.
func find(r io.Reader, ready *regexp.Regexp, matched chan<- []string) {
	var all strings.Builder
	for scanner := bufio.NewScanner(r); scanner.Scan(); {
		fmt.Fprintln(&all, scanner.Text())
		if m := ready.FindStringSubmatch(all.String()); m != nil {
			select {
			case matched <- m:
			default:
			}
		}
	}
}

// lines keeps what a process wrote, for when the test fails.
type lines struct {
	mu  sync.Mutex
	all []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p...)
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}

// get makes a request on a new connection and returns the first line of the
// answer, or the error.
func (d *deployment) get(url string) string {
	socks, err := proxy.SOCKS5("tcp", d.socks, nil, proxy.Direct)
	if err != nil {
		d.t.Fatal(err)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return socks.(proxy.ContextDialer).DialContext(ctx, network, address)
		},
	}}
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return line
}

// replace changes a file of a cluster's objects.
func (d *deployment) replace(c *testCluster, file, from, to string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "clusters", c.name, file)
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		d.t.Fatalf("%s has no %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// remove deletes pods from a file of a cluster's objects.
func (d *deployment) remove(c *testCluster, file string, pods ...string) {
	path := filepath.Join(d.dir, "clusters", c.name, file)
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	var kept []string
	for _, document := range strings.Split(string(data), "---\n") {
		gone := false
		for _, pod := range pods {
			gone = gone || strings.Contains(document, "name: "+pod+"\n")
		}
		if !gone {
			kept = append(kept, document)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(kept, "---\n")), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) await(what string, condition func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// awaitAnswers makes requests until each of the pods has answered one.
func (d *deployment) awaitAnswers(url string, pods ...string) {
	d.t.Helper()
	got := map[string]int{}
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("answers to %s: %v", url, got)
		}
	})
	d.await(fmt.Sprintf("answers of %v", pods), func() bool {
		got[d.get(url)]++
		return !slices.ContainsFunc(pods, func(pod string) bool { return got[pod] == 0 })
	})
}
