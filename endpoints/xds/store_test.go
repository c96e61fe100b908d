package xds

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var someState = map[string][]Resource{
	fruit: {
		{Name: "apple", Version: "v1", Body: []byte("1"), Aliases: []string{"net/10.0.0.1"}},
		{Name: "pear", Body: []byte{0, 0xff}},
	},
	nuts: {{Name: "", Version: "v2", Body: []byte("the only one")}},
}

func TestFileStore(t *testing.T) {
	ctx := context.Background()
	store := &FileStore{Path: filepath.Join(t.TempDir(), "state")}
	if state, err := store.Load(ctx); len(state) > 0 || err != nil {
		t.Fatalf("Load of no file: %v, %v; want nothing", state, err)
	}
	for _, state := range []map[string][]Resource{someState, {}, {fruit: someState[fruit]}} {
		if err := store.Save(ctx, state); err != nil {
			t.Fatal(err)
		}
		got, err := store.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(state, got); diff != "" {
			t.Errorf("loaded other than saved (-want +got):\n%s", diff)
		}
	}
	info, err := os.Stat(store.Path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 && filepath.Separator == '/' {
		t.Errorf("mode %v, want readable by the owner only", info.Mode())
	}
}

// TestFileStoreCrash leaves what a crash can leave: a temporary file, in whatever state.
func TestFileStoreCrash(t *testing.T) {
	ctx := context.Background()
	store := &FileStore{Path: filepath.Join(t.TempDir(), "state")}
	if err := store.Save(ctx, someState); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store.Path+".tmp", []byte("half a st"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Load(ctx); err != nil || !cmp.Equal(got, someState) {
		t.Errorf("Load: %v, %v; want the last state saved", got, err)
	}
	if err := store.Save(ctx, someState); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(store.Path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("temporary file: %v, want none", err)
	}
}

func TestFileStoreDamage(t *testing.T) {
	ctx := context.Background()
	good, err := encodeState(someState)
	if err != nil {
		t.Fatal(err)
	}
	store := &FileStore{Path: filepath.Join(t.TempDir(), "state")}
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(store.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if got, err := store.Load(ctx); !errors.As(err, &corrupt) || corrupt.Path != store.Path || len(got) > 0 {
			t.Errorf("%s: %v, %v; want a CorruptError", what, got, err)
		}
	}
	for i := range good {
		check("truncated", good[:i])
		flipped := bytes.Clone(good)
		flipped[i] ^= 0x10
		check("flipped", flipped)
	}
	check("longer", append(bytes.Clone(good), 0))
	store.MaxBytes = int64(len(good)) - 1
	check("too large", good)
	if err := store.Save(ctx, someState); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("Save of a state that is too large: %v", err)
	}
}

func FuzzFileStore(f *testing.F) {
	good, err := encodeState(someState)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[storeHeader:])
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{2, 0x12, 0x05})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if _, err := decodeState(payload); err == nil && len(payload) < storeHeader {
			t.Error("no error for a state without a header")
		}
		state, err := decodeState(seal(append(make([]byte, storeHeader), payload...)))
		if err != nil {
			return
		}
		again, err := encodeState(state)
		if err != nil {
			return // a name that is not UTF-8 cannot be written, and is not read either
		}
		if got, err := decodeState(again); err != nil || !cmp.Equal(got, state) {
			t.Errorf("%v becomes %v, %v", state, got, err)
		}
	})
}

func TestClientStartsFromStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memoryStore{state: map[string][]Resource{
			fruit:     {{Name: "apple", Version: "1", Body: []byte("1")}, {Name: "pear", Version: "1", Body: []byte("1")}, {Name: "bad", Version: "1"}},
			"dropped": {{Name: "x"}},
		}}
		s, n := serveRaw(t)
		n.cut()
		b := newBasket()
		b.refuse = func(r Resource) error {
			if r.Name == "bad" {
				return errors.New("is rotten")
			}
			return nil
		}
		stored := false
		client := &Client{Conn: n.dial(), Store: store, Types: []Type{{URL: fruit, Handle: func(u Update) map[string]error {
			stored = u.Stored
			return b.handle(u)
		}}}}
		start(t, client)
		b.await(t, "apple=1 pear=1") // with no server
		synctest.Wait()
		if st := client.Status(); st.Connected || st.Synced() || !st.Types[0].Stored || st.Types[0].Synced || !stored {
			t.Errorf("status %+v", st)
		}

		n.heal()
		stream := s.accept()
		if got, want := versions(stream.receive()), "apple=1 pear=1"; got != want {
			t.Errorf("first request has %q, want %q", got, want)
		}
		stream.respond(fruit, "1", "apple=2", "pear")
		b.await(t, "apple=2")
		await(t, "sync", client.Synced(fruit))
		synctest.Wait()
		if got := store.saved(); got != "apple=2" {
			t.Errorf("saved %q", got)
		}

		// More changes are saved together, or when the client is closed.
		stream.respond(fruit, "2", "apple=3")
		synctest.Wait()
		if got := store.saved(); got != "apple=2" {
			t.Errorf("saved %q before SaveInterval", got)
		}
		time.Sleep(client.saveInterval())
		synctest.Wait()
		if got := store.saved(); got != "apple=3" {
			t.Errorf("saved %q after SaveInterval", got)
		}
		stream.respond(fruit, "3", "apple=4")
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		if got := store.saved(); got != "apple=4" {
			t.Errorf("saved %q after Close", got)
		}
	})
}

func TestClientStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("disk on fire")
		store := &memoryStore{err: broken}
		var c Collection
		c.Update(items("apple=1"), nil)
		n := serveXDS(t, &Server{Source: ByType{fruit: &c}})
		b := newBasket()
		client := &Client{Conn: n.dial(), Store: store, Types: []Type{{URL: fruit, Handle: b.handle}}}
		start(t, client)
		b.await(t, "apple=1")
		synctest.Wait()
		if st := client.Status(); !errors.Is(st.StoreError, broken) {
			t.Errorf("StoreError %v, want %v", st.StoreError, broken)
		}
		store.set(nil)
		time.Sleep(client.saveInterval())
		synctest.Wait()
		if st := client.Status(); st.StoreError != nil || store.saved() != "apple=1" {
			t.Errorf("StoreError %v, saved %q; want it to have been tried again", st.StoreError, store.saved())
		}
	})
}

// memoryStore is a Store in memory, which may fail.
type memoryStore struct {
	mu    sync.Mutex
	state map[string][]Resource
	err   error
}

func (s *memoryStore) Load(context.Context) (map[string][]Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.err
}

func (s *memoryStore) Save(_ context.Context, state map[string][]Resource) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.state = state
	}
	return s.err
}

func (s *memoryStore) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *memoryStore) saved() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for _, r := range s.state[fruit] {
		all[r.Name] = string(r.Body)
	}
	return joined(all)
}
