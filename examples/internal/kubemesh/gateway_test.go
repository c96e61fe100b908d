package kubemesh_test

import (
	"fmt"
	"testing"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/kubemesh"
)

func gateway(name, class, meta, listener, addresses string) string {
	return fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s, namespace: app, %s}
spec: {gatewayClassName: %s, listeners: [{name: mesh, %s}]}
status: {addresses: [%s]}
`, name, meta, class, listener, addresses)
}

const (
	hbone     = "port: 15008, protocol: HBONE, tls: {mode: Terminate}"
	onNetwork = "labels: {topology.istio.io/network: net}"
	ip        = "{type: IPAddress, value: 172.18.1.100}"
)

func TestNetworkGateways(t *testing.T) {
	f := factsOf(t, gateway("ew", "istio-east-west", onNetwork, hbone, ip+", {type: Hostname, value: lb.example.com}")+
		gateway("port", "istio-east-west", onNetwork+", annotations: {gateway.istio.io/service-account: sa}", "port: 15009, protocol: HBONE, tls: {mode: Terminate}", ip)+
		gateway("remote", "istio-remote", "labels: {topology.istio.io/network: far}", "port: 15010, protocol: HBONE", ip))
	want := "[{app ew net [172.18.1.100] [lb.example.com] 0 false 0 ew 0 HEALTHY} {app port net [172.18.1.100] [] 15009 false 0 sa 0 HEALTHY} {app remote far [172.18.1.100] [] 15010 false 0 remote-istio-remote 0 HEALTHY}]"
	var got []endpoints.Gateway
	for _, g := range f.Gateways {
		got = append(got, *g)
	}
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	wantWarnings(t, f)
}

func TestGatewayThatPassesSNIThrough(t *testing.T) {
	for listener, want := range map[string]uint16{
		"port: 15443, protocol: TLS, tls: {mode: Passthrough}":                                                                 15443,
		"port: 8443, protocol: TLS, tls: {mode: Passthrough, options: {gateway.istio.io/listener-protocol: auto-passthrough}}": 8443,
		"port: 8443, protocol: TLS, tls: {mode: Passthrough}":                                                                  0,
	} {
		f := factsOf(t, gateway("ew", "istio-east-west", onNetwork, hbone+"}, {name: sni, "+listener, ip))
		if got := f.Gateways[0].SNIPort; got != want {
			t.Errorf("%s: port %d, want %d", listener, got, want)
		}
	}
}

// TestGatewaysForSidecarsOnly: any class will do, as in istiod, and so does the east-west one without HBONE.
func TestGatewaysForSidecarsOnly(t *testing.T) {
	const sni = "port: 15443, protocol: TLS, tls: {mode: Passthrough}"
	f := factsOf(t, gateway("classic", "istio", onNetwork, sni, ip)+gateway("ew", "istio-east-west", onNetwork, sni, ip)+
		gateway("both", "istio", onNetwork, hbone+"}, {name: sni, "+sni, ip)+
		gateway("elsewhere", "istio", "", sni, ip)+gateway("ingress", "istio", onNetwork, "port: 443, protocol: TLS, tls: {mode: Passthrough}", ip))
	var got []string
	for _, g := range f.Gateways {
		got = append(got, fmt.Sprint(g.Name, g.NoHBONE, g.SNIPort, g.HBONEPort))
	}
	if want := "[bothtrue 15443 0 classictrue 15443 0 ewtrue 15443 0]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	wantWarnings(t, f)
}

func TestGatewaysThatAreNotUsed(t *testing.T) {
	yaml := gateway("labelless", "istio-east-west", "", hbone, ip) +
		gateway("plain", "istio-east-west", onNetwork, "port: 80, protocol: HTTP", ip) +
		gateway("through", "istio-east-west", onNetwork, "port: 15008, protocol: HBONE, tls: {mode: Passthrough}", ip) +
		gateway("waiting", "istio-east-west", onNetwork, hbone, "") +
		gateway("typeless", "istio-east-west", onNetwork, hbone, "{value: 172.18.1.100}") +
		gateway("ingress", "istio", "", "port: 80, protocol: HTTP", ip)
	f := factsOf(t, yaml)
	if len(f.Gateways) != 0 {
		t.Errorf("gateways %v", f.Gateways)
	}
	wantWarnings(t, f, "labelless: is of class istio-east-west but has no label", "plain: has no listener of protocol HBONE", "through: has no listener of protocol HBONE",
		"waiting: has no address", "typeless: has no address", "typeless: its address 172.18.1.100 has no type")
}

func TestGatewaysOfRemoteClusters(t *testing.T) {
	s := snapshot(t, gateway("ew", "istio-east-west", onNetwork, "port: 15009, protocol: HBONE, tls: {mode: Terminate}", ip)+gateway("remote", "istio-remote", onNetwork, hbone, ip)+
		"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: app}\nspec: {hosts: [a.example.com], ports: [{number: 80, name: http}]}\n")
	f := convert(t, kubemesh.Config{Cluster: "west", Home: snapshot(t, ""), Compat: endpoints.Istio}, s)
	if len(f.Gateways) != 1 || f.Gateways[0].HBONEPort != 0 || f.Cluster.Local || len(f.Services) != 0 {
		t.Errorf("%v %v %v", f.Gateways, f.Cluster, f.Services)
	}
	wantWarnings(t, f, "1 ServiceEntries of the remote cluster west are not read", "Gateway app/ew: its HBONE port 15009 is not read", "Gateway app/remote: is of class istio-remote in a remote cluster")
}

func TestWaypoints(t *testing.T) {
	wp := func(name, traffic, routes string) string {
		return gateway(name, "istio-waypoint", "labels: {istio.io/waypoint-for: "+traffic+"}", "port: 15008, protocol: HBONE"+routes, ip+", {type: Hostname, value: "+name+".example}")
	}
	svc := func(name, meta string) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: app, %s}\nspec: {selector: {app: a}, ports: [{port: 80}]}\n", name, meta)
	}
	f := factsOf(t, wp("all", "all", "")+wp("services", "service", "")+wp("workloads", "workload", "")+wp("everybody", "all", ", allowedRoutes: {namespaces: {from: All}}")+
		gateway("binding", "istio-waypoint", "annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}", "port: 15088, protocol: istio.io/PROXY", ip)+
		wp("chosen", "all", ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}")+
		svc("refused", "labels: {istio.io/use-waypoint: chosen}")+
		svc("plain", "")+
		svc("bound", `labels: {istio.io/use-waypoint: services, istio.io/ingress-use-waypoint: "true"}`)+
		svc("wrong", "labels: {istio.io/use-waypoint: workloads}")+
		svc("missing", "labels: {istio.io/use-waypoint: nobody}")+
		svc("denied", "labels: {istio.io/use-waypoint: all, istio.io/use-waypoint-namespace: other}")+
		svc("canary", "labels: {istio.io/use-waypoint: services, istio.io/use-waypoint-canary: all}, annotations: {istio.io/use-waypoint-canary-weight: '10'}")+
		pod("a", "10.1.0.1", "labels: {istio.io/use-waypoint: all}", "", "")+
		pod("b", "10.1.0.2", "labels: {istio.io/use-waypoint: services}", "", "")+
		pod("c", "10.1.0.3", "labels: {gateway.networking.k8s.io/gateway-name: binding}", "", "")+`---
apiVersion: v1
kind: Namespace
metadata: {name: team, labels: {team: a, istio.io/use-waypoint: chosen, istio.io/use-waypoint-namespace: app}}
---
apiVersion: v1
kind: Service
metadata: {name: member, namespace: team}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: inherit, labels: {istio.io/use-waypoint: everybody, istio.io/use-waypoint-namespace: app}}
---
apiVersion: v1
kind: Service
metadata: {name: heir, namespace: inherit}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: inherit, labels: {istio.io/use-waypoint: none}}
spec: {ports: [{port: 80}]}
`)
	for key, want := range map[string]string{
		"app/plain.app.svc.cluster.local":        "<nil>",
		"app/bound.app.svc.cluster.local":        "app/services.example:15008",
		"app/wrong.app.svc.cluster.local":        "<nil>",
		"app/missing.app.svc.cluster.local":      "<nil>",
		"app/denied.app.svc.cluster.local":       "<nil>",
		"app/refused.app.svc.cluster.local":      "<nil>",
		"team/member.team.svc.cluster.local":     "app/chosen.example:15008",
		"inherit/heir.inherit.svc.cluster.local": "app/everybody.example:15008",
		"inherit/none.inherit.svc.cluster.local": "<nil>",
	} {
		if got := fmt.Sprint(serviceNamed(t, f, key).Waypoint); got != want {
			t.Errorf("%s has the waypoint %s, want %s", key, got, want)
		}
	}
	if !serviceNamed(t, f, "app/bound.app.svc.cluster.local").IngressUseWaypoint {
		t.Error("ingress does not use the waypoint")
	}
	if got := fmt.Sprint(serviceNamed(t, f, "app/canary.app.svc.cluster.local").WeightedWaypoints); got != "[{app/services.example:15008 90} {app/all.example:15008 10}]" {
		t.Errorf("canary: %s", got)
	}
	if got := fmt.Sprint(workloadNamed(t, f, "east//Pod/app/a").Waypoint); got != "app/all.example:15008" {
		t.Errorf("pod a has the waypoint %s", got)
	}
	if got := workloadNamed(t, f, "east//Pod/app/c").ApplicationTunnel; got == nil || got.Protocol != endpoints.AppTunnelPROXY || got.Port != 15088 {
		t.Errorf("pod c takes connections by %+v", got)
	}
	wantWarnings(t, f, "Service app/refused: the waypoint app/chosen does not allow objects of namespace app", "Service app/wrong: the waypoint app/workloads does not take service traffic", "Service app/missing: the waypoint app/nobody is not there",
		"Service app/denied: the waypoint other/all is not there", "Pod app/b: the waypoint app/services does not take workload traffic")
}
