package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/endpoints"
	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
)

// A sight is what a cluster's node proxy sees of one service.
type sight struct {
	vips    []string
	direct  []string            // UIDs of workloads on its own network
	through map[string][]string // UIDs of workloads elsewhere, by network
	remote  uint32              // their capacity
}

func see(c *cluster, e *endpoints.ServiceEntry) sight {
	v := sight{through: map[string][]string{}}
	for _, a := range e.Addresses {
		if a.Network == c.facts.network() && a.Addr().Is4() {
			v.vips = append(v.vips, a.Addr().String())
		}
	}
	for ep := range e.Endpoints() {
		switch w := ep.Workload; {
		case w.Network == c.facts.network():
			v.direct = append(v.direct, w.UID)
		case w.Health == endpoints.Healthy:
			v.through[w.Network] = append(v.through[w.Network], w.UID)
			v.remote += w.Weight()
		}
	}
	return v
}

// views shows the services of the story's namespace as each cluster sees them.
func (s *story) views(_ context.Context, sec *section) error {
	var wrong, leaked problems
	t := sec.table("CLUSTER", "SERVICE", "VIP", "OWN PODS", "THROUGH GATEWAYS")
	for _, c := range s.world.sorted() {
		index := c.state.Index()
		for _, host := range s.hosts() {
			e := index.Service(endpoints.ServiceKey(namespace, host))
			if e == nil {
				t.row(c.name, host, "not seen", "-", "-")
			} else {
				v := see(c, e)
				t.row(c.name, host, orDash(strings.Join(v.vips, " ")), len(v.direct), v.gateways(c, e))
			}
			s.compare(c, host, e, &wrong, &leaked)
		}
	}
	sec.check("views", "each cluster sees its own pods, and the other's through its gateway, with their number", wrong.err())
	sec.check("scope", "what is not global in the other cluster is not seen", leaked.err())
	return nil
}

// hosts are the full names of all Services of the namespace, in any cluster.
func (s *story) hosts() []string {
	var hosts []string
	for _, c := range s.world.sorted() {
		for _, svc := range c.facts.Services {
			if host := svc.Name + "." + svc.Namespace + ".svc.cluster.local"; svc.Namespace == namespace && !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	slices.Sort(hosts)
	return hosts
}

// compare holds what a cluster sees of a service against the facts of both.
func (s *story) compare(c *cluster, host string, e *endpoints.ServiceEntry, wrong, leaked *problems) {
	name, _, _ := strings.Cut(host, ".")
	other := s.world.other(c)
	own, _ := c.facts.service(namespace, name)
	theirs, _ := other.facts.service(namespace, name)
	shared := theirs != nil && other.facts.global(theirs) && (own == nil || c.facts.global(own))
	var v sight
	if e != nil {
		v = see(c, e)
	}
	if !shared && (len(v.through) > 0 || own == nil && e != nil) {
		leaked.add("%s sees %s of %s", c.name, host, other.name)
		return
	}
	if own == nil && !shared {
		return
	}
	if e == nil {
		wrong.add("%s does not see %s", c.name, host)
		return
	}
	if want := c.facts.count(own); len(v.direct) != want {
		wrong.add("%s sees %d own pods of %s, not %d", c.name, len(v.direct), host, want)
	}
	if want := other.facts.count(theirs); shared && int(v.remote) != want {
		wrong.add("%s sees %d pods of %s behind gateways, not %d", c.name, v.remote, host, want)
	}
	if shared && len(v.vips) == 0 {
		wrong.add("%s has no address for %s", c.name, host)
	}
}

func (v sight) gateways(c *cluster, e *endpoints.ServiceEntry) string {
	var parts []string
	for ep := range e.Endpoints() {
		if w := ep.Workload; w.Network != c.facts.network() && w.NetworkGateway != nil {
			parts = append(parts, fmt.Sprintf("%d in %s by %s", w.Weight(), w.Network, w.NetworkGateway.Address.Addr()))
		}
	}
	slices.Sort(parts)
	return orDash(strings.Join(parts, ", "))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// names asks the caller's DNS for the service in every form, and for a host
// outside of the mesh.
func (s *story) names(ctx context.Context, sec *section) error {
	own, err := s.world.clusters[east].facts.service(namespace, serviceName)
	if err != nil {
		return err
	}
	var wrong problems
	t := sec.table("ASKED FOR", "ANSWER")
	for _, name := range []string{serviceName, serviceName + "." + namespace, s.service} {
		got, err := s.lookup(ctx, name)
		t.row(name, answerText(got, err))
		if err != nil || !slices.Equal(got, []string{own.Spec.ClusterIP}) {
			wrong.add("%s is %s, not %s", name, answerText(got, err), own.Spec.ClusterIP)
		}
	}
	got, err := s.lookup(ctx, externalHost)
	t.row(externalHost, answerText(got, err))
	sec.check("names", "every form of the name has the ClusterIP of east as its answer", wrong.err())
	sec.check("external-name", "a host outside of the mesh has an address of 240.240.0.0/16", checkVIP(got, err))
	return nil
}

func checkVIP(got []string, err error) error {
	if err != nil {
		return err
	}
	if len(got) != 1 {
		return fmt.Errorf("%d answers: %v", len(got), got)
	}
	ip, err := netip.ParseAddr(got[0])
	if err != nil {
		return err
	}
	if !netip.MustParsePrefix("240.240.0.0/16").Contains(ip) {
		return fmt.Errorf("the answer is %s", ip)
	}
	return nil
}

func answerText(got []string, err error) string {
	if err != nil {
		return err.Error()
	}
	return orDash(strings.Join(got, " "))
}

// lookup asks for A records over UDP, at the port that a pod's queries are
// captured to. The answers are sorted.
func (s *story) lookup(ctx context.Context, name string) ([]string, error) {
	conn, err := s.caller.pod.DialContext(ctx, "udp", fmt.Sprintf(":%d", ztunnel.DNSPort))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return askA(ctx, conn, name)
}

func askA(ctx context.Context, conn net.Conn, name string) ([]string, error) {
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(name), dns.TypeA)
	client := dns.Client{Net: "udp", Timeout: 10 * time.Second} // the default of 2 s is short on a busy machine
	response, _, err := client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, err
	}
	if response.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("%s: %s", name, dns.RcodeToString[response.Rcode])
	}
	var ips []string
	for _, rr := range response.Answer {
		if a, ok := rr.(*dns.A); ok {
			ips = append(ips, a.A.String())
		}
	}
	slices.Sort(ips)
	return ips, nil
}
