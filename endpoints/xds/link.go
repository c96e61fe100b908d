package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// conversation is one stream of a Client. Two goroutines work on it: link reads, and send writes.
type conversation struct {
	stream grpc.ClientStream
	cancel context.CancelCauseFunc
	wake   chan struct{}                        // there may be something to send
	queue  []*discoverypb.DeltaDiscoveryRequest // first requests and ACKs; guarded by Client.mu
}

// maxQueue bounds the ACKs that the server does not read.
const maxQueue = 1000

var errNotReading = errors.New("xds: the server does not read requests")

// event is what link tells apply: that a conversation began, or what was received on it.
type event struct {
	conv     *conversation
	response *discoverypb.DeltaDiscoveryResponse // nil: it begins
}

// link connects, and connects again, until the context is done.
func (c *Client) link(ctx context.Context) {
	wait := backoff{min: c.minBackoff(), max: c.maxBackoff()}
	for {
		start := time.Now()
		answered, err := c.converse(ctx)
		if ctx.Err() != nil {
			return
		}
		if answered && time.Since(start) > c.maxBackoff() {
			wait.reset()
		}
		pause := wait.pause()
		c.disconnected(err, pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// converse opens a stream and reads from it until it breaks. It reports whether the server has
// answered, and why the stream ended.
func (c *Client) converse(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opts := append([]grpc.CallOption{grpc.MaxCallRecvMsgSize(c.maxResponseBytes())}, c.CallOptions...)
	stream, err := c.Conn.NewStream(ctx, &deltaStreamDesc, deltaMethod, opts...)
	if err != nil {
		return false, fmt.Errorf("xds: open stream: %w", err)
	}
	conv := &conversation{stream: stream, cancel: cancel, wake: make(chan struct{}, 1)}
	if !c.tell(ctx, event{conv: conv}) {
		return false, context.Cause(ctx)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.send(ctx, conv)
	}()
	defer func() {
		cancel(nil)
		<-sent
		c.hangUp()
	}()
	return c.receive(ctx, conv)
}

// receive hands all responses to apply.
func (c *Client) receive(ctx context.Context, conv *conversation) (answered bool, err error) {
	for {
		resp := new(discoverypb.DeltaDiscoveryResponse)
		if err := conv.stream.RecvMsg(resp); err != nil {
			return answered, endOf(ctx, err)
		}
		answered = true
		if !c.tell(ctx, event{conv: conv, response: resp}) {
			return answered, context.Cause(ctx)
		}
	}
}

// endOf says why a stream ended: our own reason, if it was us.
func endOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("xds: the server ended the stream: %w", err)
	}
	return fmt.Errorf("xds: %w", err)
}

// tell gives an event to apply. It returns false if the context is done.
func (c *Client) tell(ctx context.Context, e event) bool {
	select {
	case c.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// send writes what is to be said until the stream breaks. It is not the goroutine that reads:
// two peers that each wait for the other to read would wait forever.
func (c *Client) send(ctx context.Context, conv *conversation) {
	for {
		req := c.nextRequest(conv)
		if req == nil {
			select {
			case <-conv.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if err := conv.stream.SendMsg(req); err != nil {
			return // RecvMsg gets the reason
		}
	}
}

// nextRequest takes the next request that is to be sent, or nil.
func (c *Client) nextRequest(conv *conversation) *discoverypb.DeltaDiscoveryRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conv != conv {
		return nil // greet comes first
	}
	if len(conv.queue) > 0 {
		req := conv.queue[0]
		conv.queue = conv.queue[1:]
		return req
	}
	for _, k := range c.caches {
		if req := k.nextRequest(c.maxRequestBytes()); req != nil {
			return req
		}
	}
	return nil
}

// hangUp notes that no stream is open.
func (c *Client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conv = nil
	if c.status.Connected {
		c.status.Connected, c.status.Since = false, time.Now()
	}
}

// disconnected notes why, and logs it.
func (c *Client) disconnected(err error, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Failures++
	c.status.LastError = err
	c.logger().Warn("disconnected from control plane", "error", err, "failures", c.status.Failures, "retry_in", pause)
}
