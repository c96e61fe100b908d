package xds

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// variant is what differs between delta and state-of-the-world discovery.
type variant interface {
	// receive reads one request.
	receive(grpc.ServerStream) (request, error)
	// apply takes in what the request wants; first is set for the first one of its type.
	apply(sub *subscription, req request, first bool) error
	// take returns what the client has to be told now, and whether there is anything to send.
	take(sub *subscription) (answer, bool)
	// next takes one response from a, and returns it as the stream can send it, and whether there are more.
	next(s *stream, sub *subscription, a *answer) (message any, more bool, err error)
}

// request is what the requests of both variants have.
type request interface {
	GetNode() *discoverypb.Node
	GetTypeUrl() string
	GetResponseNonce() string
	GetErrorDetail() *discoverypb.Status
}

// stream is one client at work. Three goroutines share it: the gRPC handler, which waits for the
// end, a reader and a writer.
type stream struct {
	server    *Server
	grpc      grpc.ServerStream
	variant   variant
	prepare   func(proto.Message) (any, error) // see function prepare
	id        string
	connected time.Time

	asked   chan struct{} // a request came in: answer it
	changed chan struct{} // a collection changed
	ended   chan struct{} // closed by end
	once    sync.Once
	err     error // why the stream ended; set before ended is closed

	mu     sync.Mutex
	info   ClientInfo
	isOpen bool            // the client was let in
	subs   []*subscription // in the order of their first requests
}

// end makes the handler return err, which ends the stream. Only the first call counts.
func (s *stream) end(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.ended)
	})
}

// run lets the client in, and takes in its requests until the stream ends.
func (s *stream) run() {
	req, err := s.greet()
	for err == nil {
		if err = s.handle(req); err == nil {
			req, err = s.receive()
		}
	}
	if errors.Is(err, errGone) {
		err = nil
	}
	s.end(err)
}

// receive reads a request. It returns errGone when there are no more.
func (s *stream) receive() (request, error) {
	req, err := s.variant.receive(s.grpc)
	if err != nil {
		return nil, errGone
	}
	return req, nil
}

// errGone says that the client has ended the stream, which is no error.
var errGone = errors.New("the client is gone")

// greet finds out who the client is, and returns its first request.
func (s *stream) greet() (request, error) {
	ctx := s.grpc.Context()
	if s.server.Authenticate == nil || s.server.Source == nil {
		return nil, status.Error(codes.Unauthenticated, "the server lacks a Source, or a way to authenticate clients")
	}
	identity, err := s.server.Authenticate(ctx)
	if err != nil {
		s.server.logger().Warn("client not authenticated", "error", err)
		return nil, asStatus(err, codes.Unauthenticated, "not authenticated")
	}
	silent := time.AfterFunc(greetTimeout, func() {
		s.end(status.Error(codes.DeadlineExceeded, "no request"))
	})
	req, err := s.receive()
	silent.Stop()
	if err != nil {
		return nil, err
	}
	if req.GetNode().GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "missing node information")
	}
	info := ClientInfo{Peer: identity, Node: nodeFromProto(req.GetNode())}
	if p, ok := peer.FromContext(ctx); ok {
		info.Addr = p.Addr
	}
	if s.server.Authorize != nil {
		if err := s.server.Authorize(info); err != nil {
			s.server.logger().Warn("client not authorized", "client", info.Node.ID, "error", err)
			return nil, asStatus(err, codes.PermissionDenied, "not authorized")
		}
	}
	s.open(info)
	return req, nil
}

// greetTimeout is how long a client may take for its first request.
const greetTimeout = 30 * time.Second

func (s *stream) open(info ClientInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info, s.isOpen = info, true
	s.server.logger().Info("client connected", "client", info.Node.ID, "addr", info.Addr)
}

// handle takes in one request.
func (s *stream) handle(req request) error {
	sub, first, err := s.subscription(req.GetTypeUrl())
	if err != nil || sub.collection == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if nonce := req.GetResponseNonce(); nonce != "" && !first {
		s.answered(sub, nonce, req.GetErrorDetail())
	}
	if err := s.variant.apply(sub, req, first); err != nil {
		return err
	}
	if sub.due {
		poke(s.asked)
	}
	return nil
}

// subscription returns the state of a type, and whether this is the first that the stream hears
// of it.
func (s *stream) subscription(typeURL string) (*subscription, bool, error) {
	s.mu.Lock()
	i := slices.IndexFunc(s.subs, func(sub *subscription) bool { return sub.url == typeURL })
	if i >= 0 {
		defer s.mu.Unlock()
		return s.subs[i], false, nil
	}
	n := len(s.subs)
	s.mu.Unlock()
	if n >= s.server.maxTypes() {
		return nil, false, status.Errorf(codes.ResourceExhausted, "more than %d types on one stream", n)
	}
	collection, err := s.server.Source.Collection(s.grpc.Context(), s.info, typeURL)
	if err != nil {
		return nil, false, asStatus(err, codes.Internal, "")
	}
	sub := &subscription{
		url:        typeURL,
		collection: collection,
		limit:      s.server.maxSubscriptions(),
		maxHeld:    s.server.maxHeld(),
		names:      make(map[string]struct{}),
		along:      make(map[string]struct{}),
		nonces:     nonces{prefix: s.id},
	}
	if collection != nil {
		sub.watcher = collection.watch(func() { poke(s.changed) })
	}
	if s.prepare != nil {
		sub.broadcast = &broadcastKey{url: typeURL, identifier: s.server.identifier(), limit: s.server.maxResponseBytes()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, sub)
	return sub, true, nil
}

// answered takes in an ACK or a NACK.
func (s *stream) answered(sub *subscription, nonce string, detail *discoverypb.Status) {
	if !sub.nonces.answered(nonce) {
		return
	}
	if detail == nil {
		sub.status.Acked = nonce
		return
	}
	// The client keeps what it had. The same again would be refused again, so nothing is sent
	// before something changes.
	text := detail.GetMessage()
	text = strings.Clone(text[:min(len(text), maxDetail)])
	sub.status.Rejected++
	sub.status.LastError = text
	s.server.logger().Warn("client rejected resources", "client", s.info.Node.ID, "type", sub.url, "detail", text)
}

// write sends responses until the stream ends.
func (s *stream) write() {
	for {
		select {
		case <-s.ended:
			return
		case <-s.asked:
		case <-s.changed:
			s.pause()
		}
		s.mu.Lock()
		subs := slices.Clone(s.subs)
		s.mu.Unlock()
		for _, sub := range subs {
			if sub.collection == nil {
				continue
			}
			if err := s.push(sub); err != nil {
				s.end(err)
				return
			}
		}
	}
}

// pause lets changes come together, unless a client is waiting for an answer.
func (s *stream) pause() {
	delay := s.server.pushDelay()
	if delay <= 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.asked:
	case <-s.ended:
	}
}

// push sends what is due of one type, as one response or as several.
func (s *stream) push(sub *subscription) error {
	s.mu.Lock()
	a, send := s.variant.take(sub)
	s.mu.Unlock()
	for send {
		var message any
		var err error
		s.mu.Lock()
		message, send, err = s.variant.next(s, sub, &a)
		s.mu.Unlock()
		if err == nil {
			err = s.send(message)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// send sends one response, and ends the stream if the client does not take it in time: what it
// has not been served yet is held in memory.
func (s *stream) send(message any) error {
	slow := time.AfterFunc(s.server.sendTimeout(), func() {
		s.end(status.Error(codes.DeadlineExceeded, "the client does not read"))
	})
	defer slow.Stop()
	return s.grpc.SendMsg(message)
}

// snapshot describes the stream, once it is open.
func (s *stream) snapshot() (ClientStatus, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isOpen {
		return ClientStatus{}, false
	}
	_, delta := s.variant.(deltaVariant)
	st := ClientStatus{ClientInfo: s.info, Connected: s.connected, Delta: delta}
	for _, sub := range s.subs {
		if sub.collection == nil {
			continue
		}
		t := sub.status
		t.TypeURL, t.Wildcard, t.Subscribed = sub.url, sub.wildcard, len(sub.names)
		st.Types = append(st.Types, t)
	}
	return st, true
}

// close lets go of the collections. Neither reader nor writer runs any more.
func (s *stream) close() {
	for _, sub := range s.subs {
		sub.close()
	}
	if s.isOpen {
		s.server.logger().Info("client disconnected", "client", s.info.Node.ID, "error", s.err)
	}
}

// poke fills a channel of capacity 1.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// asStatus returns err if it is, or wraps, a gRPC status, and else a status that shows the
// client the text instead of it; with no text, that of err.
func asStatus(err error, code codes.Code, text string) error {
	var has interface{ GRPCStatus() *status.Status }
	if errors.As(err, &has) && has.GRPCStatus().Code() != codes.OK {
		return status.ErrorProto(has.GRPCStatus().Proto())
	}
	if text == "" {
		text = err.Error()
	}
	return status.Error(code, text)
}
