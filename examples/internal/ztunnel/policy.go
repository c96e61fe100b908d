package ztunnel

import (
	"errors"
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
	peer   spiffeid.ID
	source netip.AddrPort
	port   uint16
}

var errPolicy = errors.New("the policies do not allow it any more")

// request is the question about an admission as it has to be asked now: with
// the policies that the workload names now.
func (d *pod) request(a admission) authz.Request {
	w := d.workload.Load()
	return authz.Request{
		Namespace:   w.Namespace,
		Policies:    w.AuthorizationPolicies,
		Peer:        a.peer,
		Source:      a.source,
		Destination: d.address(a.port),
	}
}

// allow refuses what the policies do not allow, with ztunnel's status 401. As
// long as the policies are not known, nothing is allowed.
func (d *pod) allow(a admission) error {
	set := d.proxy.cfg.State.Policies()
	if set == nil {
		return refuse(http.StatusServiceUnavailable, "the policies are not known yet")
	}
	decision := set.Check(d.request(a))
	if decision.DryRun.Allowed != decision.Allowed {
		d.proxy.cfg.Logger.Info("dry-run policies decide otherwise",
			"workload", d.workload.Load().UID, "peer", a.peer, "verdict", decision.DryRun)
	}
	if !decision.Allowed {
		return refuse(http.StatusUnauthorized, "%v", decision.Verdict)
	}
	return nil
}

// recheck ends the connections that came in and would be refused now.
func (d *pod) recheck() {
	d.admitted.Range(func(conn, a any) bool {
		if err := d.allow(a.(admission)); err != nil {
			conn.(*hbone.Conn).Abort(errors.Join(errPolicy, err))
		}
		return true
	})
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
