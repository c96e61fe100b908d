package xds

import (
	"iter"
	"sync"
)

// Collection holds the resources of one type as one group of clients sees them. A Server sends
// its changes to all of these clients.
//
// It keeps no queue per client. Each resource knows the revision at which it last changed, and
// each client up to which revision it was served: a slow client just gets more at once, only the
// latest of each name, and costs nothing meanwhile.
//
// The zero value is empty and ready. Methods may be called concurrently.
type Collection struct {
	mu sync.RWMutex
}

// Update applies changes: first the removals, then the upserts. What clients see of one Update
// they see at once. An upsert without a version gets a hash of its body; one that equals what is
// held is no change, and neither is the removal of a name that is not held.
// The Collection keeps the resources: their slices must not be changed later.
func (c *Collection) Update(upserts []Resource, removals []string) {}

// Replace makes the collection hold exactly these resources. Only differences are sent.
func (c *Collection) Replace(all []Resource) {}

// Get returns the resource of that name.
func (c *Collection) Get(name string) (Resource, bool) { return Resource{}, false }

// All yields the resources, those first that did not change for the longest time. It does so of
// the state when it starts, and holds no lock while it yields.
func (c *Collection) All() iter.Seq[Resource] { return nil }

// Len returns the number of resources.
func (c *Collection) Len() int { return 0 }
