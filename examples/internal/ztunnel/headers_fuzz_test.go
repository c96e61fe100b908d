package ztunnel

import (
	"net"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
)

// FuzzBaggage: whatever a workload is called, ztunnel reads from our baggage
// what we meant, and nothing else.
func FuzzBaggage(f *testing.F) {
	f.Add("east", "app", "web", "web", "v1", "eu", "eu-1")
	f.Add("", "", "", "", "", "", "")
	f.Add("a,k8s.namespace.name=evil", "a=b", "x\r\ny: z", " ", "\u00e9", ";", "\x00")
	f.Fuzz(func(t *testing.T, cluster, namespace, workload, name, revision, region, zone string) {
		got := readBaggage(t, baggage(&endpoints.Workload{
			Cluster: cluster, Namespace: namespace, Type: endpoints.Pod, WorkloadName: workload, CanonicalName: name, CanonicalRevision: revision,
			Locality: endpoints.Locality{Region: region, Zone: zone},
		}))
		members := map[string]string{
			"k8s.cluster.name": cluster, "k8s.namespace.name": namespace, "k8s.pod.name": workload, "service.name": name, "service.version": revision,
			"cloud.region": region, "cloud.availability_zone": zone,
		}
		for key, want := range members {
			if strings.ContainsFunc(want, unfit) {
				want = "" // left out
			}
			if got[key] != want {
				t.Errorf("%s is %q, want %q", key, got[key], want)
			}
			delete(got, key)
		}
		if len(got) > 0 {
			t.Errorf("it also says %q", got)
		}
	})
}

// readBaggage reads as ztunnel does: by commas, then by equals signs, of which
// it takes the second piece.
func readBaggage(t *testing.T, value string) map[string]string {
	wantHeaderValue(t, value)
	members := map[string]string{}
	for member := range strings.SplitSeq(value, ",") {
		if pieces := strings.Split(member, "="); len(pieces) > 1 && pieces[1] != "" {
			if _, twice := members[pieces[0]]; twice {
				t.Errorf("%s is there twice", pieces[0])
			}
			members[pieces[0]] = pieces[1]
		}
	}
	return members
}

// FuzzForwarded: the same for the Forwarded header, of which ztunnel takes the
// first part that begins with "host=", without quotes.
func FuzzForwarded(f *testing.F) {
	f.Add("reviews.app.svc.cluster.local", "10.1.0.20", 41234)
	f.Add("*.example.com", "2001:db8::20", 1)
	f.Add(`a";host=b`, "", 0)
	f.Add("a\r\nx: y", "", 0)
	f.Fuzz(func(t *testing.T, hostname, ip string, port int) {
		client := &net.TCPAddr{IP: net.ParseIP(ip), Port: port & 0xffff}
		value := forwarded(client, &endpoints.ServiceEntry{Service: &endpoints.Service{Hostname: hostname}})
		wantHeaderValue(t, value)
		first, rest, hasHost := strings.Cut(value, ";")
		if want := `for="` + client.String() + `"`; first != want {
			t.Errorf("begins with %s, want %s", first, want)
		}
		host, isHost := strings.CutPrefix(rest, "host=")
		if hasHost && (!isHost || host != hostname || strings.ContainsAny(host, `";,= `)) {
			t.Errorf("%q became %s", hostname, value)
		}
	})
}

// wantHeaderValue checks that value can be sent: visible characters only.
func wantHeaderValue(t *testing.T, value string) {
	if strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		t.Errorf("%q is no header value", value)
	}
}
