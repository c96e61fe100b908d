package xds

import "context"

// Subscribe asks for names of a type that is OnDemand. They stay subscribed over reconnects.
// It does not wait.
func (c *Client) Subscribe(typeURL string, names ...string) error {
	c.init()
	k, err := c.onDemand(typeURL)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		k.subscribe(name)
	}
	c.wakeSender()
	return nil
}

// Unsubscribe takes back Subscribe. Resources of these names are removed soon, by an Update,
// even if they came along with others, unless another name of theirs is subscribed to. The server is told with the next Subscribe, because
// istiod answers a request that only unsubscribes with the removal of everything else.
func (c *Client) Unsubscribe(typeURL string, names ...string) error {
	c.init()
	k, err := c.onDemand(typeURL)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		k.unsubscribe(name)
	}
	poke(c.dropped)
	return nil
}

// Fetch subscribes to a name, and waits until the server has answered for it. It reports whether
// there is such a resource, by name or by alias. If the client already holds it, for whatever
// reason, it returns at once and does not subscribe. A resource that Handle refused is a *RejectedError. It must not be called by a Handle.
func (c *Client) Fetch(ctx context.Context, typeURL, name string) (found bool, err error) {
	c.init()
	k, err := c.onDemand(typeURL)
	if err != nil {
		return false, err
	}
	for {
		c.mu.Lock()
		found, known, err := k.find(name)
		if known {
			c.mu.Unlock()
			return found, err
		}
		answered := k.await(name)
		k.subscribe(name)
		c.wakeSender()
		c.mu.Unlock()
		select {
		case <-answered:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-c.finished:
			return false, ErrClosed
		}
	}
}

func (c *Client) onDemand(typeURL string) (*cache, error) {
	switch k := c.byURL[typeURL]; {
	case k == nil:
		return nil, &TypeError{TypeURL: typeURL, Reason: "is not one of the client's"}
	case !k.OnDemand:
		return nil, &TypeError{TypeURL: typeURL, Reason: "is subscribed to as a whole"}
	default:
		return k, nil
	}
}

// wakeSender makes the open stream look for new subscriptions. The caller holds c.mu.
func (c *Client) wakeSender() {
	if c.conv != nil {
		poke(c.conv.wake)
	}
}
