package dnsproxy_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// headless is the service of istiod's name table tests, with four pods.
func headless() dnsproxy.Service {
	pod := func(name, addr, network, cluster string) dnsproxy.Member {
		return dnsproxy.Member{Hostname: name, Subdomain: "headless-svc", Addresses: addrs(addr), Network: network, Cluster: cluster}
	}
	return dnsproxy.Service{
		Host: "headless-svc.testns.svc.cluster.local", ShortName: "headless-svc", Namespace: "testns",
		Registry: dnsproxy.Kubernetes, Headless: true,
		Members: []dnsproxy.Member{
			pod("pod1", "1.2.3.4", "", ""),
			pod("pod2", "9.6.7.8", "nw2", "cl2"),
			pod("pod3", "19.6.7.8", "nw1", ""),
			pod("pod4", "9.16.7.8", "", "cl1"),
		},
	}
}

func vip(host string, registry dnsproxy.Registry, addresses ...string) dnsproxy.Service {
	return dnsproxy.Service{Host: host, ShortName: "mysql-svc", Namespace: "testns", Registry: registry, Addresses: addresses}
}

// TestEntries is the matrix of istiod's name table tests.
func TestEntries(t *testing.T) {
	const svc, pods = "headless-svc.testns.svc.cluster.local", ".headless-svc.testns.svc.cluster.local"
	unhealthy := headless()
	unhealthy.Members = unhealthy.Members[:3]
	unhealthy.Members[1].NotReady, unhealthy.Members[2].NotReady = true, true // not ready, terminating
	published := unhealthy
	published.PublishNotReady = true
	external := headless()
	external.Host, external.ShortName, external.Registry = "foo.bar.com", "foo.bar.com", dnsproxy.External
	for i := range external.Members {
		external.Members[i].Hostname, external.Members[i].Subdomain = "", ""
	}
	wildcard := vip("*.testns.svc.cluster.local", dnsproxy.Kubernetes, "172.10.10.10")
	wildcard.ShortName = "wildcard-svc"
	manyPorts := headless()
	manyPorts.Members = []dnsproxy.Member{
		{Hostname: "pod1", Subdomain: "headless-svc", Addresses: addrs("1.2.3.4")}, // of the first port
		{Hostname: "pod1", Subdomain: "headless-svc", Addresses: addrs("1.2.3.4")}, // of the second
		{Hostname: "pod2", Subdomain: "headless-svc", Addresses: addrs("1.2.3.5")}, // only of the second
	}
	dual := headless()
	dual.Members = []dnsproxy.Member{{Hostname: "pod1", Subdomain: "headless-svc", Addresses: addrs("1.2.3.4", "2001:db8::1")}}
	sameName := func(clusters ...string) dnsproxy.Service {
		s := headless()
		s.Members = nil
		for i, c := range clusters {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			s.Members = append(s.Members, dnsproxy.Member{Hostname: "mysql-0", Subdomain: "headless-svc", Addresses: []netip.Addr{a}, Cluster: c})
		}
		return s
	}
	mcs := vip("mysql.testns.svc.clusterset.local", dnsproxy.Kubernetes, "10.0.0.9")

	tests := []struct {
		name     string
		audience dnsproxy.Audience
		services []dnsproxy.Service
		want     map[string][]string // host -> addresses
	}{
		{"proxy without network and cluster", dnsproxy.Audience{LocalHeadless: true}, []dnsproxy.Service{headless()}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, "pod2" + pods: {"9.6.7.8"}, "pod3" + pods: {"19.6.7.8"}, "pod4" + pods: {"9.16.7.8"},
			svc: {"1.2.3.4", "9.6.7.8", "19.6.7.8", "9.16.7.8"},
		}},
		{"network isolation", dnsproxy.Audience{Network: "nw1", LocalHeadless: true}, []dnsproxy.Service{headless()}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, "pod3" + pods: {"19.6.7.8"}, "pod4" + pods: {"9.16.7.8"},
			svc: {"1.2.3.4", "19.6.7.8", "9.16.7.8"},
		}},
		{"multicluster headless off", dnsproxy.Audience{Cluster: "cl1", LocalHeadless: true}, []dnsproxy.Service{headless()}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, "pod2" + pods: {"9.6.7.8"}, "pod3" + pods: {"19.6.7.8"}, "pod4" + pods: {"9.16.7.8"},
			svc: {"1.2.3.4", "19.6.7.8", "9.16.7.8"},
		}},
		{"multicluster headless on", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{headless()}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, "pod2" + pods: {"9.6.7.8"}, "pod3" + pods: {"19.6.7.8"}, "pod4" + pods: {"9.16.7.8"},
			svc: {"1.2.3.4", "9.6.7.8", "19.6.7.8", "9.16.7.8"},
		}},
		{"unhealthy and terminating pods", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{unhealthy}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, svc: {"1.2.3.4"},
		}},
		{"publishNotReadyAddresses", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{published}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, "pod2" + pods: {"9.6.7.8"}, "pod3" + pods: {"19.6.7.8"},
			svc: {"1.2.3.4", "9.6.7.8", "19.6.7.8"},
		}},
		{"wildcard service", dnsproxy.Audience{}, []dnsproxy.Service{wildcard}, map[string][]string{
			"*.testns.svc.cluster.local": {"172.10.10.10"},
		}},
		{"CIDR address", dnsproxy.Audience{}, []dnsproxy.Service{vip("*.testns.svc.cluster.local", dnsproxy.Kubernetes, "172.217.0.0/16")}, map[string][]string{}},
		{"ServiceEntry without resolution", dnsproxy.Audience{Network: "nw1"}, []dnsproxy.Service{external}, map[string][]string{
			"foo.bar.com": {"1.2.3.4", "19.6.7.8", "9.16.7.8"},
		}},
		{"ServiceEntry without resolution, by cluster", dnsproxy.Audience{Cluster: "cl1", LocalHeadless: true}, []dnsproxy.Service{external}, map[string][]string{
			"foo.bar.com": {"1.2.3.4", "19.6.7.8", "9.16.7.8"},
		}},
		{"dual stack VIPs", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{vip("dual.foo.bar", dnsproxy.External, "2001:2::", "10.0.0.8")}, map[string][]string{
			"dual.foo.bar": {"2001:2::", "10.0.0.8"},
		}},
		{"dual stack pods", dnsproxy.Audience{}, []dnsproxy.Service{dual}, map[string][]string{
			"pod1" + pods: {"1.2.3.4", "2001:db8::1"}, svc: {"1.2.3.4", "2001:db8::1"},
		}},
		{"two ServiceEntries with one host", dnsproxy.Audience{}, []dnsproxy.Service{
			vip("mysql.foo.bar", dnsproxy.External, "10.0.0.5"), vip("mysql.foo.bar", dnsproxy.External, "10.0.0.6"),
		}, map[string][]string{"mysql.foo.bar": {"10.0.0.5", "10.0.0.6"}}},
		{"ServiceEntry, then Kubernetes service", dnsproxy.Audience{}, []dnsproxy.Service{
			vip("mysql.foo.bar", dnsproxy.External, "10.0.0.5"), vip("mysql.foo.bar", dnsproxy.Kubernetes, "10.0.0.7"),
		}, map[string][]string{"mysql.foo.bar": {"10.0.0.7"}}},
		{"Kubernetes service, then ServiceEntry", dnsproxy.Audience{}, []dnsproxy.Service{
			vip("mysql.foo.bar", dnsproxy.Kubernetes, "10.0.0.7"), vip("mysql.foo.bar", dnsproxy.External, "10.0.0.5"),
		}, map[string][]string{"mysql.foo.bar": {"10.0.0.7"}}},
		{"ports with different pods", dnsproxy.Audience{}, []dnsproxy.Service{manyPorts}, map[string][]string{
			"pod1" + pods: {"1.2.3.4"}, "pod2" + pods: {"1.2.3.5"}, svc: {"1.2.3.4", "1.2.3.5"},
		}},
		{"pod of the same name, local last", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{sameName("cl2", "cl2", "cl1")}, map[string][]string{
			"mysql-0" + pods: {"10.0.0.3"}, svc: {"10.0.0.1", "10.0.0.2", "10.0.0.3"},
		}},
		{"pod of the same name, local first", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{sameName("cl1", "cl2", "cl1")}, map[string][]string{
			"mysql-0" + pods: {"10.0.0.1", "10.0.0.3"}, svc: {"10.0.0.1", "10.0.0.2", "10.0.0.3"},
		}},
		{"pod of the same name, remote only", dnsproxy.Audience{Cluster: "cl1"}, []dnsproxy.Service{sameName("cl2", "cl3")}, map[string][]string{
			"mysql-0" + pods: {"10.0.0.1", "10.0.0.2"}, svc: {"10.0.0.1", "10.0.0.2"},
		}},
		{"clusterset.local", dnsproxy.Audience{}, []dnsproxy.Service{mcs}, map[string][]string{"mysql.testns.svc.clusterset.local": {"10.0.0.9"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries := dnsproxy.Entries(tt.audience, tt.services)
			got := map[string][]string{}
			for _, e := range entries {
				for _, a := range e.Addresses {
					got[e.Host] = append(got[e.Host], a.String())
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			if _, err := dnsproxy.Build(entries); err != nil {
				t.Errorf("they make no table: %v", err)
			}
		})
	}
}

// TestEntriesNames: who has a short name, and which registry is kept.
func TestEntriesNames(t *testing.T) {
	tests := []struct {
		name     string
		services []dnsproxy.Service
		short    string
		registry dnsproxy.Registry
	}{
		{"Kubernetes", []dnsproxy.Service{vip("mysql.foo.bar", dnsproxy.Kubernetes, "10.0.0.7")}, "mysql-svc", dnsproxy.Kubernetes},
		{"external", []dnsproxy.Service{vip("mysql.foo.bar", dnsproxy.External, "10.0.0.7")}, "", dnsproxy.External},
		{"no registry", []dnsproxy.Service{vip("mysql.foo.bar", "", "10.0.0.7")}, "", dnsproxy.External},
		{"clusterset.local", []dnsproxy.Service{vip("mysql.testns.svc.clusterset.local", dnsproxy.Kubernetes, "10.0.0.7")}, "", dnsproxy.Kubernetes},
		{"Kubernetes over external", []dnsproxy.Service{
			vip("mysql.foo.bar", dnsproxy.External, "10.0.0.5"), vip("mysql.foo.bar", dnsproxy.Kubernetes, "10.0.0.7"),
		}, "mysql-svc", dnsproxy.Kubernetes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries := dnsproxy.Entries(dnsproxy.Audience{}, tt.services)
			if len(entries) != 1 {
				t.Fatalf("%d entries, want 1", len(entries))
			}
			if e := entries[0]; e.ShortName != tt.short || e.Registry != tt.registry {
				t.Errorf("short name %q and registry %q, want %q and %q", e.ShortName, e.Registry, tt.short, tt.registry)
			}
		})
	}
}
