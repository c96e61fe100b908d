package ztunnel

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/identity/authz"
)

// An admission is what was asked of the policies when a connection came in, to
// ask it again when they change.
type admission struct {
	peer        spiffeid.ID
	source      netip.AddrPort
	destination netip.AddrPort // of the application
}

// errPolicy ends connections that were allowed once.
var errPolicy = errors.New("the policies do not allow it any more")

// allow refuses what the policies do not allow, with ztunnel's status 401. As
// long as the policies are not known, nothing is allowed.
func (d *pod) allow(a admission) error {
	decision, err := d.decide(a)
	if err == nil && decision.DryRun.Allowed != decision.Allowed {
		d.proxy.cfg.Logger.Info("dry-run policies decide otherwise",
			"workload", d.uid(), "peer", a.peer, "verdict", decision.DryRun)
	}
	if err == nil && !decision.Allowed {
		err = refuse(http.StatusUnauthorized, "%v", decision.Verdict)
	}
	return err
}

// decide asks the policies that there are now, and those that the workload
// names now: ztunnel remembers the names that there were when the connection
// came, and so misses policies that select the workload since.
func (d *pod) decide(a admission) (authz.Decision, error) {
	set := d.proxy.cfg.State.Policies()
	if set == nil {
		return authz.Decision{}, refuse(http.StatusServiceUnavailable, "the policies are not known yet")
	}
	w := d.workload.Load()
	return set.Check(authz.Request{
		Namespace:   w.Namespace,
		Policies:    w.AuthorizationPolicies,
		Peer:        a.peer,
		Source:      a.source,
		Destination: a.destination,
	}), nil
}

// recheck ends the connections that came in and would be refused now.
func (d *pod) recheck() {
	d.admitted.Range(func(conn, a any) bool {
		d.recheckOne(conn.(*hbone.Conn), a.(admission))
		return true
	})
}

func (d *pod) recheckOne(conn *hbone.Conn, a admission) {
	decision, err := d.decide(a)
	if err == nil && decision.Allowed {
		return
	}
	if err == nil {
		err = errors.New(decision.String())
	}
	d.proxy.cfg.Logger.Info("a connection is cut", "workload", d.uid(), "peer", a.peer, "reason", err)
	conn.Abort(fmt.Errorf("%w: %w", errPolicy, err))
}

// addrPort returns the zero AddrPort for an address that is not of IP: no
// policy about source addresses matches that.
func addrPort(a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
