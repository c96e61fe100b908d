package dnsproxy

import (
	"fmt"
	"iter"
	"sync/atomic"
)

// NameTable is an immutable set of entries with the indexes to answer from.
// It is safe for concurrent use; With makes a new table that shares what did not
// change, at a cost that follows the change and not the size.
type NameTable struct{}

// EntryError says what is wrong with an entry that a table was given.
type EntryError struct {
	Key   Key
	Field string // "Host", "Addresses[2]", ...
	Err   error
}

func (e *EntryError) Error() string {
	return fmt.Sprintf("dnsproxy: entry %s (namespace %q): %s: %v", e.Key.Host, e.Key.Namespace, e.Field, e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }

// Build makes a table. Entries with the same Key: the later one wins.
// The error joins an [*EntryError] for everything that is wrong; then there is no table.
func Build(entries []Entry) (*NameTable, error) { return nil, nil }

// With returns a table with the upserts added or replaced and the removals gone
// (a removal of what is not there is no error). t may be nil: the empty table.
func (t *NameTable) With(upserts []Entry, removals []Key) (*NameTable, error) { return nil, nil }

// Len returns the number of entries.
func (t *NameTable) Len() int { return 0 }

// Get returns the entry with the given key.
func (t *NameTable) Get(k Key) (*Entry, bool) { return nil, false }

// All yields all entries, in no particular order.
func (t *NameTable) All() iter.Seq[*Entry] { return nil }

// Names holds the current table of a program, for any number of resolvers.
// The zero value holds none. It is safe for concurrent use.
type Names struct {
	current atomic.Pointer[NameTable]
}

// Load returns the current table, or nil when none was stored yet.
func (n *Names) Load() *NameTable { return n.current.Load() }

// Store makes t the current table.
func (n *Names) Store(t *NameTable) { n.current.Store(t) }

// Update applies upserts and removals to the current table. On an error the
// table stays as it is.
func (n *Names) Update(upserts []Entry, removals []Key) error { return nil }
