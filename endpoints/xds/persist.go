package xds

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// restore delivers what the store has, before the server is asked. A store that cannot be read
// is reported, and counts as empty: the server has everything.
func (c *Client) restore(ctx context.Context) {
	if c.Store == nil {
		return
	}
	state, err := c.Store.Load(ctx)
	if err != nil {
		c.storeResult(err)
		return
	}
	for _, k := range c.caches {
		stored := state[k.URL]
		if len(stored) == 0 {
			continue
		}
		rejected := c.deliver(k, Update{TypeURL: k.URL, Upserts: stored, Stored: true})
		if len(rejected) > 0 {
			c.logger().Warn("stored resources rejected", "type", k.URL, "detail", rejections(rejected))
		}
		c.mu.Lock()
		k.status.Stored = true
		c.mu.Unlock()
	}
}

// saveChanges saves what has changed, at most once per SaveInterval, and a last time when all
// updates are applied.
func (c *Client) saveChanges(ctx context.Context, applied <-chan struct{}) {
	if c.Store == nil {
		return
	}
	for last := false; !last; {
		select {
		case <-c.dirty:
			c.save(ctx)
		case <-applied:
			last = true
			continue
		}
		select {
		case <-time.After(c.saveInterval()):
		case <-applied:
			last = true
		}
	}
	select {
	case <-c.dirty:
		c.save(ctx)
	default:
	}
}

func (c *Client) save(ctx context.Context) {
	state := make(map[string][]Resource, len(c.caches))
	c.mu.Lock()
	for _, k := range c.caches {
		for _, r := range k.held {
			state[k.URL] = append(state[k.URL], r)
		}
	}
	c.mu.Unlock()
	for _, resources := range state {
		slices.SortFunc(resources, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
	}
	// The last save comes when the client is being stopped.
	err := c.Store.Save(context.WithoutCancel(ctx), state)
	c.storeResult(err)
	if err != nil {
		poke(c.dirty) // try again
	}
}

func (c *Client) storeResult(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.StoreError = err
	if err != nil {
		c.logger().Error("last known state", "error", err)
	}
}
