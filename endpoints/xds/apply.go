package xds

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// apply handles what link receives until the context is done. It is Run's own goroutine, and the
// only one that calls Handle.
func (c *Client) apply(ctx context.Context) {
	for {
		select {
		case e := <-c.events:
			if e.response == nil {
				c.greet(e.conv)
			} else {
				c.handle(e.conv, e.response)
			}
		case <-c.dropped:
			c.removeDropped()
		case <-ctx.Done():
			return
		}
	}
}

// greet begins a conversation: one request for each type. It runs after the last response of the
// conversation before was handled, so that the requests say all that is held.
func (c *Client) greet(conv *conversation) {
	node, err := nodeToProto(c.Node)
	if err != nil {
		conv.cancel(err) // check has tried it before
		return
	}
	c.removeDropped() // firstRequest forgets what was unsubscribed
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.caches {
		conv.queue = append(conv.queue, k.firstRequest(node, c.maxRequestBytes()))
	}
	c.conv = conv
	poke(conv.wake)
}

// handle applies one response, and answers it.
func (c *Client) handle(conv *conversation, resp *discoverypb.DeltaDiscoveryResponse) {
	c.connected(conv, resp)
	k := c.byURL[resp.GetTypeUrl()]
	if k == nil {
		c.logger().Warn("response of a type that was not asked for", "type", resp.GetTypeUrl())
		return
	}
	if resp.GetMoreVersions() {
		c.listMore(conv, k, resp.GetNonce())
		return
	}
	c.mu.Lock()
	u, rejected := k.decode(resp)
	c.mu.Unlock()
	maps.Copy(rejected, c.deliver(k, u))

	c.mu.Lock()
	k.missing(resp.GetRemovedResources())
	k.reject(resp, rejected)
	k.status.Version = resp.GetSystemVersionInfo()
	k.status.LastUpdate = time.Now()
	k.partly = k.partly || len(rejected) > 0
	complete := !strings.HasSuffix(resp.GetNonce(), moreSuffix)
	var gone []string
	if complete {
		gone = slices.Sorted(maps.Keys(k.doubt))
		clear(k.doubt)
	}
	c.mu.Unlock()

	c.deliver(k, Update{TypeURL: k.URL, Removals: gone})
	answer := ack(resp, rejected)
	if answer.GetErrorDetail() != nil {
		c.logger().Warn("resources rejected", "type", k.URL, "detail", answer.GetErrorDetail().GetMessage())
	}
	c.answer(conv, answer)
	if complete {
		c.completed(k)
	}
}

// listMore answers a server that wants to know what else is held.
func (c *Client) listMore(conv *conversation, k *cache, nonce string) {
	c.mu.Lock()
	req := k.moreVersions(nonce, c.maxRequestBytes())
	c.mu.Unlock()
	c.answer(conv, req)
}

// deliver gives an update to Handle, and records what came of it.
func (c *Client) deliver(k *cache, u Update) map[string]error {
	if len(u.Upserts) == 0 && len(u.Removals) == 0 {
		return nil
	}
	rejected := k.Handle(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	k.record(u, rejected, c.Store != nil)
	if !u.Stored {
		poke(c.dirty)
	}
	return rejected
}

// answer queues the ACK or NACK of a response.
func (c *Client) answer(conv *conversation, req *discoverypb.DeltaDiscoveryRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(conv.queue) >= maxQueue {
		conv.cancel(errNotReading)
		return
	}
	conv.queue = append(conv.queue, req)
	poke(conv.wake)
}

// completed notes the end of a response. As in ztunnel, the type is synced when all of one was
// accepted: with a policy that could not be read, a proxy should not start.
func (c *Client) completed(k *cache) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.partly && !k.status.Synced {
		k.status.Synced = true
		close(k.synced)
	}
	k.partly = false
}

// connected notes that the server has answered.
func (c *Client) connected(conv *conversation, resp *discoverypb.DeltaDiscoveryResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := resp.GetControlPlane().GetIdentifier(); id != "" {
		c.status.ControlPlane = id
	}
	if c.conv == conv && !c.status.Connected {
		c.status.Connected, c.status.Since, c.status.Failures = true, time.Now(), 0
		c.logger().Info("connected to control plane", "control_plane", c.status.ControlPlane)
	}
}

// removeDropped takes what was unsubscribed from the handlers.
func (c *Client) removeDropped() {
	for _, k := range c.caches {
		c.mu.Lock()
		removals := slices.DeleteFunc(k.removed, func(name string) bool {
			held, ok := k.held[name]
			return !ok || k.wants(name, held.Aliases) // subscribed again, meanwhile
		})
		k.removed = nil
		c.mu.Unlock()
		c.deliver(k, Update{TypeURL: k.URL, Removals: removals})
	}
}
