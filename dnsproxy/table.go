package dnsproxy

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eastwest-mesh/eastwest/internal/pmap"
)

// NameTable is an immutable set of entries with the indexes to answer from. It
// is safe for concurrent use. With makes a new table that shares what did not
// change, at a cost that follows the change and not the size of the table. A nil
// *NameTable is an empty one.
type NameTable struct {
	entries pmap.Map[string, *Entry] // by Key
	hosts   recordsByName            // complete names
	wild    recordsByName            // wildcards, by the name below which they hold
	short   recordsByName            // "name.namespace"
	reverse recordsByName            // "10.0.0.10.in-addr.arpa"
}

// recordsByName are the records of each name.
type recordsByName = pmap.Map[string, []*record]

// index says in which index of a table a record is.
type index int

const (
	inHosts index = iota
	inWild
	inShort
	inReverse
)

// Build makes a table. Of entries with the same [Key] the last one counts. The
// error joins an [*EntryError] for everything that is wrong; then there is no table.
func Build(entries []Entry) (*NameTable, error) {
	return (*NameTable)(nil).With(entries, nil)
}

// With returns a table without the removals (a key that is not there is no
// error), and then with the upserts added or replaced. Errors are those of [Build].
func (t *NameTable) With(upserts []Entry, removals []Key) (*NameTable, error) {
	type compiled struct {
		entry    *Entry
		postings []posting
	}
	var errs []error
	news := make([]compiled, 0, len(upserts))
	for i := range upserts {
		e := &upserts[i : i+1 : i+1][0]
		postings, err := compile(e)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		news = append(news, compiled{e, postings})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	next := t.edit()
	for _, k := range removals {
		next.remove(Key{Namespace: k.Namespace, Host: canonical(k.Host)})
	}
	for _, c := range news {
		next.remove(c.entry.Key())
		next.entries.Set(c.entry.Key().index(), c.entry)
		for _, p := range c.postings {
			next.post(p)
		}
	}
	return next.table(), nil
}

// tableEdit is a NameTable on its way to the next one.
type tableEdit struct {
	entries *pmap.Editor[string, *Entry]
	records [4]*pmap.Editor[string, []*record] // by index
}

func (t *NameTable) edit() *tableEdit {
	if t == nil {
		t = new(NameTable)
	}
	e := &tableEdit{entries: t.entries.Edit()}
	e.records[inHosts], e.records[inWild] = t.hosts.Edit(), t.wild.Edit()
	e.records[inShort], e.records[inReverse] = t.short.Edit(), t.reverse.Edit()
	return e
}

func (e *tableEdit) table() *NameTable {
	return &NameTable{
		entries: e.entries.Map(),
		hosts:   e.records[inHosts].Map(),
		wild:    e.records[inWild].Map(),
		short:   e.records[inShort].Map(),
		reverse: e.records[inReverse].Map(),
	}
}

func (e *tableEdit) remove(k Key) {
	old, ok := e.entries.Get(k.index())
	if !ok {
		return
	}
	e.entries.Delete(k.index())
	postings, _ := compile(old) // it was compiled before: there is no error
	for _, p := range postings {
		e.unpost(p, old)
	}
}

// post adds p to its index. The records of one name are in the order of their
// entries' keys, so that a table does not depend on the history that led to it.
func (e *tableEdit) post(p posting) {
	ix := e.records[p.index]
	old, _ := ix.Get(p.key)
	at, _ := slices.BinarySearchFunc(old, p.record, compareRecords)
	recs := make([]*record, 0, len(old)+1)
	recs = append(append(append(recs, old[:at]...), p.record), old[at:]...)
	ix.Set(p.key, recs)
}

func (e *tableEdit) unpost(p posting, of *Entry) {
	ix := e.records[p.index]
	old, _ := ix.Get(p.key)
	recs := make([]*record, 0, len(old))
	for _, r := range old {
		if r.entry != of {
			recs = append(recs, r)
		}
	}
	if len(recs) == 0 {
		ix.Delete(p.key)
	} else {
		ix.Set(p.key, recs)
	}
}

func compareRecords(a, b *record) int {
	return cmp.Or(
		cmp.Compare(a.entry.Namespace, b.entry.Namespace),
		cmp.Compare(a.entry.Host, b.entry.Host),
		cmp.Compare(a.name, b.name),
	)
}

// Len returns the number of entries.
func (t *NameTable) Len() int {
	if t == nil {
		return 0
	}
	return t.entries.Len()
}

// Get returns the entry with the given key. It must not be modified.
func (t *NameTable) Get(k Key) (*Entry, bool) {
	if t == nil {
		return nil, false
	}
	return t.entries.Get(Key{Namespace: k.Namespace, Host: canonical(k.Host)}.index())
}

// All yields all entries, in no particular order. They must not be modified.
func (t *NameTable) All() iter.Seq[*Entry] {
	if t == nil {
		return func(func(*Entry) bool) {}
	}
	return func(yield func(*Entry) bool) {
		for _, e := range t.entries.All() {
			if !yield(e) {
				return
			}
		}
	}
}

// Names holds the current table of a program, for any number of resolvers. The
// zero value holds none. It is safe for concurrent use.
type Names struct {
	current atomic.Pointer[NameTable]
	writing sync.Mutex
}

// Load returns the current table, or nil when none was stored yet.
func (n *Names) Load() *NameTable { return n.current.Load() }

// Store makes t the current table; nil stands for an empty one.
func (n *Names) Store(t *NameTable) {
	n.writing.Lock()
	defer n.writing.Unlock()
	if t == nil {
		t = new(NameTable)
	}
	n.current.Store(t)
}

// Update removes and upserts entries of the current table, see [NameTable.With].
// On an error the table stays as it is.
func (n *Names) Update(upserts []Entry, removals []Key) error {
	n.writing.Lock()
	defer n.writing.Unlock()
	next, err := n.current.Load().With(upserts, removals)
	if err != nil {
		return err
	}
	n.current.Store(next)
	return nil
}
