package kubefile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"
	networking "istio.io/api/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/eastwest-mesh/eastwest/examples/internal/kubefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load reads files given as name, content, name, content.
func load(t *testing.T, files ...string) (*kubefile.Snapshot, error) {
	t.Helper()
	fsys := fstest.MapFS{}
	for i := 0; i+1 < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return kubefile.Loader{}.LoadFS(fsys, "east")
}

func mustLoad(t *testing.T, files ...string) *kubefile.Snapshot {
	t.Helper()
	s, err := load(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a real API server returned must be accepted as it is.
func TestObjectsOfARealCluster(t *testing.T) {
	s, err := kubefile.Load("testdata/golden")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Namespaces) != 4 || len(s.Pods) != 6 || len(s.Services) != 5 || len(s.EndpointSlices) != 5 || len(s.Gateways) != 1 {
		t.Errorf("%d namespaces, %d pods, %d services, %d slices, %d gateways",
			len(s.Namespaces), len(s.Pods), len(s.Services), len(s.EndpointSlices), len(s.Gateways))
	}
	entry := s.ServiceEntries[0]
	if entry.Spec.Resolution != networking.ServiceEntry_STATIC || entry.Status.Addresses[0].Value != "240.240.0.1" {
		t.Errorf("ServiceEntry: %v %v", entry.Spec, entry.Status)
	}
	if s.Mesh.TrustDomain != "cluster.local" || len(s.Mesh.ServiceScopeConfigs) != 1 {
		t.Errorf("MeshConfig: %v", s.Mesh)
	}
	if p := s.Position(s.Pods[0]); p.File != filepath.Join("testdata", "golden", "objects.json") || p.Line < 100 {
		t.Errorf("the first pod is at %v", p)
	}
}

func TestExampleClusters(t *testing.T) {
	for _, cluster := range []string{"east", "west"} {
		if _, err := kubefile.Load(filepath.Join("..", "..", "mesh", "clusters", cluster)); err != nil {
			t.Error(err)
		}
	}
}

const namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: app\n"

func service(spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: app}\nspec:\n" + spec
}

func TestErrors(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"syntax", "a: b\nc: d: e\n", `f.yaml:2: mapping values are not allowed in this context`},
		{"not an object", "- a\n", `f.yaml:1:1: want an object with apiVersion and kind, got a list`},
		{"no kind", "apiVersion: v1\n", `f.yaml:1:1: kind: required`},
		{"no version", "kind: Pod\n", `f.yaml:1:1: Pod: apiVersion: required`},
		{"unknown kind", "apiVersion: v1\nkind: Servise\nmetadata: {name: a, namespace: b}\n", `f.yaml:2:7: Servise b/a: kind: unknown kind Servise (did you mean "Service"?)`},
		{"unknown version", "apiVersion: v2\nkind: Service\n", `f.yaml:1:13: Service: apiVersion: unknown kind Service of version v2 (did you mean "v1"?)`},
		{"no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}\n", `f.yaml:3:11: Namespace: metadata.name: required`},
		{"bad name", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: App\n", `f.yaml:4:9: Namespace App: metadata.name: "App": a lowercase RFC 1123 label`},
		{"no namespace", "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n", `f.yaml:4:3: ServiceAccount a: metadata.namespace: required`},
		{"namespace of a node", "apiVersion: v1\nkind: Node\nmetadata:\n  name: a\n  namespace: b\n", `f.yaml:5:14: Node b/a: metadata.namespace: a Node has no namespace`},
		{"unknown field", service("  port:\n  - port: 80\n"), `f.yaml:5:3: Service app/reviews: spec.port: unknown field (did you mean "ports"?)`},
		{"unknown field in a list", service("  ports:\n  - port: 80\n    taregtPort: 80\n"), `f.yaml:7:5: Service app/reviews: spec.ports[0].taregtPort: unknown field (did you mean "targetPort"?)`},
		{"case matters", service("  Ports: []\n"), `f.yaml:5:3: Service app/reviews: spec.Ports: unknown field (did you mean "ports"?)`},
		{"string for a number", service("  ports:\n  - port: http\n"), `f.yaml:6:11: Service app/reviews: spec.ports[0].port: want a number, got a string`},
		{"number for a string", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: 12\n", `f.yaml:4:9: Namespace: metadata.name: want a string, got a number: quote it`},
		{"boolean label", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: app\n  labels:\n    istio.io/global: true\n", `f.yaml:6:22: Namespace app: metadata.labels["istio.io/global"]: want a string, got a boolean: quote it`},
		{"yes is a boolean", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: app\n  labels:\n    a: yes\n", `f.yaml:6:8: Namespace app: metadata.labels.a: want a string, got a boolean: quote it`},
		{"object for a list", service("  ports: {}\n"), `f.yaml:5:10: Service app/reviews: spec.ports: want a list, got an object`},
		{"too large a number", service("  ports:\n  - port: 80000000000\n"), `f.yaml:6:11: Service app/reviews: spec.ports[0].port: number 80000000000 is not int32`},
		{"not a port", service("  ports:\n  - port: 80000\n"), `f.yaml:6:11: Service app/reviews: spec.ports[0].port: 80000 is not a port: want 1 to 65535`},
		{"not an address", service("  clusterIP: 10.0.0\n  ports:\n  - port: 80\n"), `f.yaml:5:3: Service app/reviews: spec.clusterIPs[0]: "10.0.0" is not an IP address`},
		{"duplicate key", service("  ports:\n  - port: 80\n    port: 81\n"), `f.yaml:7:5: the key "port" is on line 6 too`},
		{"duplicate object", namespace + "---\n" + namespace, `f.yaml:6:1: Namespace app: is there twice: the first is at east/f.yaml:1:1`},
		{"unknown field of a List", "apiVersion: v1\nkind: List\nitem: []\n", `f.yaml:3:1: List: item: unknown field (did you mean "items"?)`},
		{"items that are no list", "apiVersion: v1\nkind: PodList\nitems: {}\n", `f.yaml:3:8: PodList: items: want a list, got an object`},
		{"bad time", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  creationTimestamp: yesterday\n", `f.yaml:5:22: Namespace a: metadata.creationTimestamp: parsing time`},
		{"merge key", "a: &a {b: c}\nd:\n  <<: *a\n", `f.yaml:3:3: the merge key << is not supported`},
		{"anchor in itself", "apiVersion: &a [*a]\n", `the anchor "a" contains itself`},
		{"unknown proto field", entry("  host: [a.example.com]\n"), `f.yaml:5:3: ServiceEntry app/ext: spec.host: unknown field (did you mean "hosts"?)`},
		{"unknown enum value", entry("  hosts: [a.example.com]\n  ports: [{number: 80, name: http}]\n  resolution: STATICS\n"), `f.yaml:7:15: ServiceEntry app/ext: spec.resolution: "STATICS" is none of [NONE STATIC DNS DNS_ROUND_ROBIN DYNAMIC_DNS] (did you mean "STATIC"?)`},
		{"proto type", entry("  hosts: a.example.com\n"), `f.yaml:5:10: ServiceEntry app/ext: spec.hosts: want a list, got a string`},
		{"hostname with STATIC", entry("  hosts: [a.example.com]\n  ports: [{number: 80, name: http}]\n  resolution: STATIC\n  endpoints:\n  - address: b.example.com\n"), `f.yaml:9:14: ServiceEntry app/ext: spec.endpoints[0].address: "b.example.com" is not an IP address, which resolution STATIC needs`},
		{"every host", entry("  hosts: ['*']\n  ports: [{number: 80, name: http}]\n"), `spec.hosts[0]: a ServiceEntry cannot be for every host`},
		{"slice of the other family", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: b}\naddressType: IPv6\nendpoints:\n- addresses: [10.0.0.1]\n", `f.yaml:6:15: EndpointSlice b/a: endpoints[0].addresses[0]: 10.0.0.1 is not of the addressType IPv6`},
		{"mesh config in a ConfigMap", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    trustDomain: a\n    rootNamespaces: b\n", `f.yaml:7: MeshConfig: rootNamespaces: unknown field (did you mean "rootNamespace"?)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, "f.yaml", tt.content)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			var typed *kubefile.Error
			if !errors.As(err, &typed) || typed.File != filepath.Join("east", "f.yaml") {
				t.Errorf("%#v is not an *Error of the file", err)
			}
		})
	}
}

func entry(spec string) string {
	return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ext, namespace: app}\nspec:\n" + spec
}

func TestEveryErrorIsReportedInOrder(t *testing.T) {
	_, err := load(t, "b.yaml", "x: [", "a.yaml", service("  port: 1\n  selectors: {}\n"))
	var lines []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var typed *kubefile.Error
		if errors.As(e, &typed) {
			lines = append(lines, typed.String())
		}
	}
	if got := strings.Join(lines, " "); got != "east/a.yaml:5:3 east/a.yaml:6:3 east/b.yaml:1" {
		t.Errorf("errors at %s", got)
	}
	if !errors.Is(err, kubefile.ErrUnknownField) {
		t.Errorf("%v is not ErrUnknownField", err)
	}
}

func TestTooManyErrorsAreCut(t *testing.T) {
	_, err := load(t, "a.yaml", strings.Repeat("kind: Pod\n---\n", 1000))
	if n := strings.Count(err.Error(), "\n"); n != 100 || !strings.HasSuffix(err.Error(), "more errors are not shown") {
		t.Errorf("%d lines", n)
	}
}

func TestMeshConfigFile(t *testing.T) {
	text := "# ours\ntrustDomain: example.org\nrootNamespace: mesh\n"
	s := mustLoad(t, "mesh.yaml", text)
	if s.Mesh.TrustDomain != "example.org" || string(s.Mesh.Text) != text || s.Mesh.Position.String() != filepath.Join("east", "mesh.yaml")+":1:1" {
		t.Errorf("%v at %s", s.Mesh.MeshConfig, s.Mesh.Position)
	}
	_, err := load(t, "a/mesh.yaml", text, "b/mesh.yml", text)
	if !errors.Is(err, kubefile.ErrDuplicate) {
		t.Errorf("two MeshConfigs: %v", err)
	}
	_, err = load(t, "mesh.yaml", "trustDomain: example.org\nserviceScopeConfigs:\n- namespacesSelector: {}\n")
	if err == nil || !strings.Contains(err.Error(), `mesh.yaml:3:3: MeshConfig: serviceScopeConfigs[0].namespacesSelector: unknown field (did you mean "namespaceSelector"?)`) {
		t.Error(err)
	}
}

func TestListsAndJSON(t *testing.T) {
	s := mustLoad(t,
		"a.json", `{"apiVersion":"v1","kind":"NamespaceList","items":[{"metadata":{"name":"one"}},{"metadata":{"name":"two"}}]}`,
		"b.yaml", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: three}\n---\n# nothing here\n---\napiVersion: v1\nkind: List\n",
		"README.md", "not read", ".hidden.yaml", "not: read", "sub/c.yml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: four}\n",
	)
	var names []string
	for _, n := range s.Namespaces {
		names = append(names, n.Name)
	}
	if got := strings.Join(names, " "); got != "four one three two" {
		t.Errorf("namespaces %s", got)
	}
	if _, err := load(t, "a.yaml", "apiVersion: v1\nkind: List\nitems:\n- metadata: {name: a}\n"); err == nil {
		t.Error("an item of a List without a kind was accepted")
	}
}

func TestDefaults(t *testing.T) {
	s := mustLoad(t, "a.yaml", namespace+"---\n"+service("  clusterIP: 10.0.0.1\n  ports:\n  - port: 80\n")+
		"---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: app}\nspec:\n  containers: [{name: a, ports: [{containerPort: 80}]}]\nstatus: {podIP: 10.1.0.1}\n")
	svc, pod := s.Services[0], s.Pods[0]
	if svc.Spec.Ports[0].TargetPort.IntValue() != 80 || svc.Spec.Ports[0].Protocol != "TCP" || svc.Spec.ClusterIPs[0] != "10.0.0.1" || svc.Spec.IPFamilies[0] != "IPv4" {
		t.Errorf("Service: %+v", svc.Spec)
	}
	if pod.Spec.ServiceAccountName != "default" || pod.Status.PodIPs[0].IP != "10.1.0.1" || pod.Spec.Containers[0].Ports[0].Protocol != "TCP" {
		t.Errorf("Pod: %+v %+v", pod.Spec, pod.Status)
	}
	if s.Namespaces[0].Labels["kubernetes.io/metadata.name"] != "app" {
		t.Errorf("Namespace: %v", s.Namespaces[0].Labels)
	}
	if got := string(s.JSON(pod)); strings.Contains(got, "default") || !strings.Contains(got, `"podIP":"10.1.0.1"`) {
		t.Errorf("JSON is not what was read: %s", got)
	}
	for field, want := range map[string]string{"spec.ports[0].port": "12:11", "spec.ports[0].name": "12:5", "spec.ports[7]": "12:3", `metadata["x"]`: "8:11"} {
		if got := s.Locate(svc, field).String(); got != filepath.Join("east", "a.yaml")+":"+want {
			t.Errorf("%s is at %s, want %s", field, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	fsys := fstest.MapFS{"a.yaml": {Data: []byte(namespace)}, "b.yaml": {Data: []byte("# nothing")}}
	for name, l := range map[string]kubefile.Loader{"bytes": {MaxFileBytes: 10}, "files": {MaxFiles: 1}} {
		if _, err := l.LoadFS(fsys, "east"); !errors.Is(err, kubefile.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fsys["c.yaml"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(namespace, "app", "b"))}
	if _, err := (kubefile.Loader{MaxObjects: 1}).LoadFS(fsys, "east"); !errors.Is(err, kubefile.ErrTooLarge) {
		t.Errorf("objects: %v", err)
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	if _, err := load(t, "a.yaml", bomb); !errors.Is(err, kubefile.ErrTooLarge) {
		t.Errorf("a bomb of aliases: %v", err)
	}
	deep := t.TempDir()
	if err := os.Symlink(".", filepath.Join(deep, "loop")); err != nil {
		t.Skip(err)
	}
	if _, err := kubefile.Load(deep); !errors.Is(err, kubefile.ErrTooLarge) {
		t.Errorf("a directory in itself: %v", err)
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := kubefile.Load("testdata/none"); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "testdata/none: ") {
		t.Errorf("no directory: %v", err)
	}
	if _, err := kubefile.Load("load_test.go"); err == nil {
		t.Error("a file was read as a directory")
	}
}

func FuzzLoad(f *testing.F) {
	// Small seeds: the fuzzer spends its time on making large ones smaller.
	for _, file := range []string{"../../mesh/clusters/east/cluster.yaml", "../../mesh/clusters/east/external.yaml", "../../mesh/clusters/east/policy.yaml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("a.yaml", content)
	}
	f.Add("mesh.yaml", []byte("trustDomain: a\nserviceScopeConfigs:\n- scope: GLOBAL\n"))
	f.Add("a.json", []byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b"}}]}`))
	f.Add("a.yaml", []byte(service("  ports: &p\n  - {port: 0x50, targetPort: web}\n  selector: {a: yes}\n  ipFamilies: *p\n")))
	f.Add("a.yaml", []byte(entry("  hosts: [a.b]\n  ports: [{number: 80, name: a}]\n")))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		if !fs.ValidPath(name) || name == "." {
			return
		}
		s, err := kubefile.Loader{}.LoadFS(fstest.MapFS{name: {Data: content}}, "fuzz")
		if (s == nil) == (err == nil) {
			t.Errorf("snapshot %v, error %v", s, err)
		}
		for _, p := range podsOf(s) {
			if p.GetName() == "" || p.GetNamespace() == "" {
				t.Errorf("a pod without a name: %v", p)
			}
		}
	})
}

func podsOf(s *kubefile.Snapshot) (objects []metav1.Object) {
	if s != nil {
		for _, p := range s.Pods {
			objects = append(objects, p)
		}
	}
	return objects
}
