package dnsproxy

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Exchanger asks somebody else. [*Forwarder] is one.
type Exchanger interface {
	// Exchange answers query, which it does not modify. The response belongs to
	// the caller; its ID and question are those of the query.
	Exchange(ctx context.Context, query *dns.Msg) (*dns.Msg, error)
}

// Handler answers from a Resolver what it knows, and asks Upstream the rest.
// It is a dns.Handler. Its fields must not be changed after its first use.
type Handler struct {
	// Resolver knows the mesh; nil means that everything is asked upstream.
	Resolver *Resolver

	// View is how all clients see the names, when ViewOf is nil.
	View View

	// ViewOf says how the client at remote sees the names. On an error (a client
	// that is not known, say) the client gets SERVFAIL.
	ViewOf func(remote net.Addr) (View, error)

	// Upstream is asked what the resolver does not know; nil means REFUSED.
	Upstream Exchanger

	// Timeout of a question that is asked upstream. Zero means 5 s.
	Timeout time.Duration

	// ForwardBeforeSync asks everything upstream as long as the Resolver has no
	// table. By default clients get SERVFAIL then, so that nobody remembers
	// that a name of the mesh does not exist.
	ForwardBeforeSync bool

	// Observe, if set, is called after every response, from the goroutine that made it.
	Observe func(Exchange)

	// Logger gets what goes wrong; nil is silent.
	Logger *slog.Logger
}

// Exchange is one question and what became of it.
type Exchange struct {
	Question dns.Question
	Network  string // "udp" or "tcp"
	Client   net.Addr
	View     View
	Source   Source
	Rcode    int
	Duration time.Duration
	Err      error // why an upstream answer could not be had
}

// Source says who answered.
type Source int

const (
	FromTable    Source = iota // the name table
	FromUpstream               // an upstream server
	Refused                    // nobody: malformed, not supported, or not ready
)

// ServeDNS implements dns.Handler.
func (h *Handler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {}
