package dnsproxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"
)

// Exchanger asks somebody else. [*Forwarder] is one. If it has the method Sent of
// a Forwarder, too, questions that it sent itself are refused.
type Exchanger interface {
	// Exchange answers query, which it must not modify. The response belongs to
	// the caller; its ID and question are those of the query.
	Exchange(ctx context.Context, query *dns.Msg) (*dns.Msg, error)
}

type loopDetector interface {
	Sent(from net.Addr, id uint16) bool
}

var _ loopDetector = (*Forwarder)(nil)

// Handler answers from a Resolver what it knows, and asks Upstream the rest. It
// is a dns.Handler. Its fields must not be changed after its first use.
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
	// table. By default clients get SERVFAIL then, so that nobody learns
	// that a name of the mesh does not exist.
	ForwardBeforeSync bool

	// MaxUDPSize bounds responses over UDP, whatever the client offers. Zero
	// means 65535: clients are on the same node. At least 512.
	MaxUDPSize int

	// Observe, if set, is called after every response, from the goroutine that
	// made it.
	Observe func(Exchange)

	// Logger gets, at level Debug, questions that could not be answered, of which
	// a client can make any number: count them by Observe. Nil is silent.
	Logger *slog.Logger
}

var _ dns.Handler = (*Handler)(nil)

// Exchange is one question and what became of it.
type Exchange struct {
	Question dns.Question
	Network  string // "udp" or "tcp"
	Client   net.Addr
	View     View
	Source   Source
	Rcode    int
	Duration time.Duration
	Err      error // why there was no answer
}

// Source says who answered.
type Source int

// The sources of answers.
const (
	FromNobody   Source = iota // refused: malformed, not supported, not ready
	FromTable                  // the name table
	FromUpstream               // an upstream server, or the memory of one
)

func (s Source) String() string {
	switch s {
	case FromTable:
		return "table"
	case FromUpstream:
		return "upstream"
	default:
		return "nobody"
	}
}

var errNotSynced = errors.New("dnsproxy: there is no name table yet")

const defaultTimeout = 5 * time.Second

// ServeDNS implements dns.Handler.
func (h *Handler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	x := Exchange{Client: w.RemoteAddr(), Network: w.RemoteAddr().Network()}
	var start time.Time
	if h.Observe != nil {
		start = time.Now()
	}
	if len(q.Question) > 0 {
		x.Question = q.Question[0]
	}
	resp := h.answer(q, &x)
	finish(resp, q, h.maxSize(x.Network, q), x.Err)
	x.Rcode = resp.Rcode
	if err := w.WriteMsg(resp); err != nil && h.Logger != nil {
		h.Logger.Debug("DNS response not sent", "client", x.Client, "question", x.Question.Name, "error", err)
	}
	if h.Observe != nil {
		x.Duration = time.Since(start)
		h.Observe(x)
	}
}

// answer makes the response to q and notes in x how.
func (h *Handler) answer(q *dns.Msg, x *Exchange) *dns.Msg {
	if rcode := unsupported(q); rcode != dns.RcodeSuccess {
		return new(dns.Msg).SetRcode(q, rcode)
	}
	x.View = h.View
	if h.ViewOf != nil {
		view, err := h.ViewOf(x.Client)
		if err != nil {
			return h.fail(q, x, dns.RcodeServerFailure, err)
		}
		x.View = view
	}
	if h.Resolver == nil {
		return h.forward(q, x)
	}
	if !h.ForwardBeforeSync && !h.Resolver.Synced() {
		return h.fail(q, x, dns.RcodeServerFailure, errNotSynced)
	}
	a, known := h.Resolver.Resolve(x.View, q.Question[0])
	if !known {
		return h.forward(q, x)
	}
	x.Source = FromTable
	resp := new(dns.Msg).SetRcode(q, a.Rcode)
	resp.Authoritative, resp.RecursionAvailable = true, h.Upstream != nil
	resp.Answer, resp.Ns, resp.Extra = a.Answer, a.Ns, a.Extra
	return resp
}

// unsupported returns the rcode for what is no ordinary question.
func unsupported(q *dns.Msg) int {
	opt := q.IsEdns0()
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case len(q.Question) != 1: // RFC 9619
		return dns.RcodeFormatError
	case opt != nil && opt.Version() != 0: // RFC 6891 section 6.1.3
		return dns.RcodeBadVers
	}
	switch q.Question[0].Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return dns.RcodeRefused
	case dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY:
		return dns.RcodeFormatError
	}
	return dns.RcodeSuccess
}

func (h *Handler) forward(q *dns.Msg, x *Exchange) *dns.Msg {
	if h.Upstream == nil {
		return h.fail(q, x, dns.RcodeRefused, ErrNoUpstream)
	}
	if l, ok := h.Upstream.(loopDetector); ok && l.Sent(x.Client, q.Id) {
		return h.fail(q, x, dns.RcodeRefused, ErrLoop)
	}
	x.Source = FromUpstream
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(h.Timeout, defaultTimeout))
	defer cancel()
	resp, err := h.Upstream.Exchange(ctx, q)
	switch {
	case errors.Is(err, ErrNoUpstream):
		return h.fail(q, x, dns.RcodeRefused, err)
	case err != nil:
		return h.fail(q, x, dns.RcodeServerFailure, err)
	}
	resp.RecursionAvailable = true
	return resp
}

func (h *Handler) fail(q *dns.Msg, x *Exchange, rcode int, err error) *dns.Msg {
	x.Err = err
	if h.Logger != nil {
		h.Logger.Debug("DNS question not answered", "client", x.Client, "question", x.Question.Name,
			"type", dns.Type(x.Question.Qtype), "rcode", dns.RcodeToString[rcode], "error", err)
	}
	return new(dns.Msg).SetRcode(q, rcode)
}

func (h *Handler) maxSize(network string, q *dns.Msg) int {
	if network != "udp" {
		return dns.MaxMsgSize
	}
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	return min(size, max(dns.MinMsgSize, cmp.Or(h.MaxUDPSize, dns.MaxMsgSize)))
}
