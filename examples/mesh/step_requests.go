package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity"
)

// warmUp makes requests until tunnels lead to every pod, so that what follows
// shows the steady state: a gateway chooses backends at random, and it can take
// a while until all of them are found. Without success it ends after some time;
// then what follows shows that.
func (s *story) warmUp(ctx context.Context) error {
	const batch = 100
	ctx, cancel := aWhile(ctx)
	defer cancel()
	for ctx.Err() == nil && s.reached() < s.podCount() {
		s.caller.requests(ctx, s.url(), batch)
	}
	return nil
}

// reached counts the pods that connections of east have led to.
func (s *story) reached() int {
	pods := map[string]bool{}
	for _, c := range s.world.events.outbound(east) {
		switch {
		case len(c.Hops) == 1:
			pods[c.Target] = true
		case len(c.Hops) > 1:
			pods[c.Hops[1].Backend.ID] = true
		}
	}
	return len(pods)
}

// requests shows who answers, who was authenticated on the way, and what the
// gateway could see.
func (s *story) requests(ctx context.Context, sec *section) error {
	before := s.handshakes()
	got := s.caller.requests(ctx, s.url(), s.count)
	after := s.handshakes()
	s.leak()
	got.table(sec)
	connections := s.world.events.outbound(east)
	s.showHops(sec, connections)
	bytes, found := s.world.tap.seen()

	t := sec.table("MEASURED", "HERE", "SINCE THE START")
	t.row("requests each second", int(float64(s.count)/got.elapsed.Seconds()), "-")
	t.row("TLS handshakes to east's pods and west's gateway", after.outer-before.outer, after.outer)
	t.row("TLS handshakes through the gateway, to west's pods", after.inner-before.inner, after.inner)
	t.row("bytes that the gateways relayed to pods", bytes, "-")
	t.row("times that the payload was readable in them", found, "-")

	sec.check("answered", fmt.Sprintf("all %d requests were answered", s.count), got.complete(s.count))
	sec.check("spread", "every pod of both clusters answered its share", s.evenly(got))
	sec.check("outer-identity", "on the outer hop to west its gateway proved who it is", s.outerIdentity(connections))
	sec.check("inner-identity", "on the inner hop a pod of the service did, end to end", s.innerIdentity(connections))
	sec.check("handshakes", fmt.Sprintf("connections share tunnels: fewer than %d handshakes", s.maxHandshakes()), s.fewHandshakes(before, after))
	sec.check("sealed", "inside of the outer TLS, a gateway cannot read the payload", sealed(bytes, found))
	return nil
}

// maxHandshakes is what so many connections may cost when tunnels are warm: a
// tunnel now and then to spread over more backends, not one for each.
func (s *story) maxHandshakes() uint64 { return uint64(s.count / 20) }

// handshakes are those that east's node proxy made so far as a client.
type handshakes struct{ outer, inner uint64 }

func (s *story) handshakes() handshakes {
	var h handshakes
	for depth, hop := range s.world.clusters[east].proxy.Tunnels() {
		if depth == 0 {
			h.outer += hop.Handshakes
		} else {
			h.inner += hop.Handshakes
		}
	}
	return h
}

func (s *story) fewHandshakes(before, after handshakes) error {
	if n := after.outer + after.inner - before.outer - before.inner; n >= s.maxHandshakes() {
		return fmt.Errorf("%d handshakes", n)
	}
	return nil
}

func sealed(bytes int64, found int) error {
	if found > 0 {
		return fmt.Errorf("the payload was readable %d times in %d bytes", found, bytes)
	}
	return nil
}

// evenly holds the tally against the pods that there are. With n requests and
// k pods a share is n/k; of a random choice, less than half of it or more than
// twice is as good as impossible.
func (s *story) evenly(got tally) error {
	var wrong problems
	share := s.count / s.podCount()
	for _, c := range s.world.sorted() {
		svc, err := c.facts.service(namespace, serviceName)
		if err != nil {
			return err
		}
		for _, p := range c.facts.backends(svc) {
			if n := got.answers[answer{c.name, p.Name}]; n < share/2 || n > share*2 {
				wrong.add("%s of %s answered %d requests; its share is %d", p.Name, c.name, n, share)
			}
		}
	}
	return wrong.err()
}

// podCount is how many pods the service has in both clusters.
func (s *story) podCount() int {
	n := 0
	for _, c := range s.world.sorted() {
		if svc, err := c.facts.service(namespace, serviceName); err == nil {
			n += len(c.facts.backends(svc))
		}
	}
	return max(n, 1)
}

// showHops counts who was authenticated on which hop.
func (s *story) showHops(sec *section, connections []ztunnel.Connection) {
	type hop struct{ way, id string }
	counts := map[hop]int{}
	for _, c := range connections {
		for i, h := range c.Hops {
			way := "direct, to a pod of east"
			if len(c.Hops) > 1 {
				way = [...]string{"outer, to west's gateway", "inner, through the gateway"}[i]
			}
			counts[hop{way, peerOf(h)}]++
		}
	}
	t := sec.table("HOP", "AUTHENTICATED", "CONNECTIONS")
	for _, h := range slices.SortedFunc(maps.Keys(counts), func(a, b hop) int { return strings.Compare(a.way+a.id, b.way+b.id) }) {
		t.row(h.way, h.id, counts[h])
	}
}

func peerOf(h hbone.HopState) string {
	id, err := identity.PeerID(h.TLS)
	if err != nil {
		return err.Error()
	}
	return id.String()
}

// outerIdentity wants the identity of west's gateway, and no other, on the
// first of two hops.
func (s *story) outerIdentity(connections []ztunnel.Connection) error {
	facts := s.world.clusters[west].facts
	gateway, err := facts.gateway()
	if err != nil {
		return err
	}
	want := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", facts.trustDomain(), gateway.namespace, gateway.serviceAccount)
	return everyHop(connections, 0, []string{want})
}

// innerIdentity wants identities of west's pods of the service on the second.
func (s *story) innerIdentity(connections []ztunnel.Connection) error {
	facts := s.world.clusters[west].facts
	svc, err := facts.service(namespace, serviceName)
	if err != nil {
		return err
	}
	var want []string
	for _, p := range facts.backends(svc) {
		want = append(want, fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", facts.trustDomain(), p.Namespace, p.Spec.ServiceAccountName))
	}
	return everyHop(connections, 1, want)
}

func everyHop(connections []ztunnel.Connection, hop int, want []string) error {
	seen := 0
	for _, c := range connections {
		if len(c.Hops) < 2 {
			continue
		}
		seen++
		if got := peerOf(c.Hops[hop]); !slices.Contains(want, got) {
			return fmt.Errorf("%s answered as %s, not as %v", c.Hops[hop].Address, got, want)
		}
	}
	if seen == 0 {
		return errors.New("no connection went through a gateway")
	}
	return nil
}

// control sends the payload into the gateway's tunnel without an inner one.
// The pod behind it takes no plaintext, so the request fails; but the tap must
// see the payload, or it proves nothing that it saw none before.
func (s *story) control(ctx context.Context, sec *section) error {
	ctx, cancel := aWhile(ctx)
	defer cancel()
	conn, err := s.dialGateway(ctx, s.attack.member, net.JoinHostPort(s.service, strconv.Itoa(int(s.port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload); err != nil {
		return err
	}
	var reply [256]byte
	n, readErr := conn.Read(reply[:])
	bytes, found := s.world.tap.seen()
	t := sec.table("MEASURED", "HERE")
	t.row("bytes that the gateway relayed", bytes)
	t.row("times that the payload was readable in them", found)
	t.row("what the pod's proxy said to it", fmt.Sprintf("%d bytes, %v", n, readErr))
	var wrong problems
	if found == 0 {
		wrong.add("the tap did not see the payload in %d bytes", bytes)
	}
	sec.check("control", "the tap finds the payload where nothing seals it", wrong.err())
	return nil
}

// preferClose asks for backends close by, in both clusters' copies.
func (s *story) preferClose(ctx context.Context) error {
	for _, c := range s.world.sorted() {
		if err := c.dir.set("Service", namespace, serviceName, "PreferClose", "spec", "trafficDistribution"); err != nil {
			return err
		}
	}
	return s.world.await(ctx, "east to learn of PreferClose", func() bool {
		e := s.entry(east)
		return e != nil && e.LoadBalancing != nil
	})
}

func (s *story) requestsStayLocal(ctx context.Context, sec *section) error {
	got := s.caller.requests(ctx, s.url(), s.count)
	got.table(sec)
	wrong := problems{got.complete(s.count)}
	if n := got.of(west); n > 0 {
		wrong.add("%d requests went to west", n)
	}
	sec.check("prefer-close", "only east's own pods answered", wrong.err())
	return nil
}

// removeLocalPods deletes the service's pods of east, and their applications.
func (s *story) removeLocalPods(ctx context.Context) error {
	if err := s.preferClose(ctx); err != nil {
		return err
	}
	return s.world.clusters[east].deleteBackends(ctx, namespace, serviceName)
}

func (s *story) requestsFailOver(ctx context.Context, sec *section) error {
	got := s.caller.requests(ctx, s.url(), s.count)
	got.table(sec)
	wrong := problems{got.complete(s.count)}
	if n := got.of(east); n > 0 {
		wrong.add("%d requests were answered in east", n)
	}
	sec.check("failover", "west's pods answered all of them", wrong.err())
	return nil
}

// removeLabel makes the service local again, with no pod left in east.
func (s *story) removeLabel(ctx context.Context) error {
	if err := s.world.clusters[east].deleteBackends(ctx, namespace, serviceName); err != nil {
		return err
	}
	for _, c := range s.world.sorted() {
		if err := c.dir.set("Service", namespace, serviceName, "", "metadata", "labels", "istio.io/global"); err != nil {
			return err
		}
	}
	return s.world.await(ctx, "the label to be gone", func() bool {
		return s.world.clusters[west].gatewayState.Index().ServiceByHostname(s.service, "") == nil && s.reach(east) == 0
	})
}

func (s *story) requestsAreRefused(ctx context.Context, sec *section) error {
	const tries = 20
	got := s.caller.requests(ctx, s.url(), tries)
	_, err := s.dialGateway(ctx, s.attack.member, net.JoinHostPort(s.service, strconv.Itoa(int(s.port))))
	refused := s.world.events.refusedAtGateway(west)

	t := sec.table("WHO ASKS", "WHAT HAPPENS")
	t.row("the application in east", firstOf(got))
	t.row("somebody at west's gateway, for "+s.service, errText(err))
	var wrong problems
	if n := got.answered(); n > 0 {
		wrong.add("%d of %d requests were answered", n, tries)
	}
	sec.check("unlabelled-client", "east's node proxy has nowhere to send them", wrong.err())
	sec.check("unlabelled-gateway", "west's gateway refuses the name with status 404", refusedWith(err, 404, len(refused)))
	return nil
}

func firstOf(t tally) string {
	if len(t.errs) > 0 {
		return t.errs[0].Error()
	}
	return fmt.Sprintf("%d answers", t.answered())
}

func errText(err error) string {
	if err == nil {
		return "connected"
	}
	return err.Error()
}

// entry returns what a cluster's node proxy knows of the service.
func (s *story) entry(cluster string) *entry {
	return s.world.clusters[cluster].state.Index().Service(namespace + "/" + s.service)
}

// reach counts the endpoints that a cluster's node proxy knows of.
func (s *story) reach(cluster string) int {
	if e := s.entry(cluster); e != nil {
		return e.Len()
	}
	return 0
}

// stopControlPlanes also closes every tunnel: what follows has to be set up
// from what the proxies know.
func (s *story) stopControlPlanes(context.Context) error {
	for _, c := range s.world.sorted() {
		c.stopControlPlane()
	}
	for _, c := range s.world.sorted() {
		if err := c.proxy.CloseTunnels(); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) requestsStillWork(ctx context.Context, sec *section) error {
	got := s.caller.requests(ctx, s.url(), s.count)
	got.table(sec)
	wrong := problems{got.complete(s.count)}
	for _, c := range s.world.sorted() {
		if got.of(c.name) == 0 {
			wrong.add("no request was answered in %s", c.name)
		}
	}
	sec.check("static", "new connections are made and answered in both clusters", wrong.err())
	return nil
}
