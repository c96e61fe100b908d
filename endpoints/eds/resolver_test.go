package eds

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// zone is a name server: the answer for each name, and how often it was asked.
type zone struct {
	mu      sync.Mutex
	answers map[string]answer
	asked   int
}

type answer struct {
	addrs string
	ttl   time.Duration
	err   error
}

func (z *zone) lookup(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	a := z.answers[host]
	return addrs(a.addrs), a.ttl, a.err
}

func (z *zone) set(host string, a answer) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.answers[host] = a
}

func (z *zone) times() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked
}

func TestResolver(t *testing.T) {
	down := errors.New("no name server")
	steps := []struct {
		name    string
		answer  answer
		after   time.Duration // when it is looked up again
		want    string
		changed bool
	}{
		{"first", answer{"2.2.2.2 1.1.1.1 2.2.2.2", time.Minute, nil}, time.Minute, "[1.1.1.1 2.2.2.2]", true},
		{"the same", answer{"1.1.1.1 2.2.2.2", time.Minute, nil}, time.Minute, "[1.1.1.1 2.2.2.2]", false},
		{"short-lived", answer{"3.3.3.3", time.Second, nil}, 30 * time.Second, "[3.3.3.3]", true},
		{"failure keeps what was", answer{err: down}, 30 * time.Second, "[3.3.3.3]", false},
		{"nothing keeps what was", answer{}, 30 * time.Second, "[3.3.3.3]", false},
		{"long-lived", answer{"4.4.4.4", 24 * time.Hour, nil}, time.Hour, "[4.4.4.4]", true},
	}
	synctest.Test(t, func(t *testing.T) {
		z := &zone{answers: map[string]answer{}}
		r := &Resolver{Lookup: z.lookup}
		defer r.Close()
		changes := r.Changes()
		for i, step := range steps {
			z.set("gw", step.answer)
			if i == 0 {
				r.Follow("gw")
			} else {
				time.Sleep(steps[i-1].after) // of the bubble's time
			}
			synctest.Wait()
			if z.times() != i+1 {
				t.Fatalf("%s: asked %d times, want %d", step.name, z.times(), i+1)
			}
			if got := fmt.Sprint(r.Addrs("gw")); got != step.want {
				t.Errorf("%s: %s, want %s", step.name, got, step.want)
			}
			failed := step.answer.addrs == ""
			if err := r.Err("gw"); (err != nil) != failed {
				t.Errorf("%s: error %v", step.name, err)
			}
			select {
			case <-changes:
				if !step.changed {
					t.Errorf("%s: a change was reported", step.name)
				}
			default:
				if step.changed {
					t.Errorf("%s: no change was reported", step.name)
				}
			}
		}
		r.Follow() // forgets it
		if got := r.Addrs("gw"); got != nil {
			t.Errorf("still has %v", got)
		}
		asked := z.times()
		time.Sleep(48 * time.Hour)
		if z.times() != asked {
			t.Error("still looks it up")
		}
	})
}

func TestResolverClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		r := &Resolver{Lookup: func(ctx context.Context, _ string) ([]netip.Addr, time.Duration, error) {
			<-ctx.Done()
			ended = true
			return nil, 0, ctx.Err()
		}}
		r.Follow("gw")
		synctest.Wait()
		for range 2 {
			if err := r.Close(); err != nil || !ended {
				t.Errorf("Close: %v, while a lookup runs: %v", err, !ended)
			}
		}
		r.Follow("other") // does nothing any more
		synctest.Wait()
		if err := r.Err("other"); err != nil {
			t.Error(err)
		}
	})
	var unused Resolver
	if unused.Addrs("gw") != nil || unused.Close() != nil {
		t.Error("the zero value does not work")
	}
}

// TestResolverTimeout: a lookup that hangs does not keep others from being tried again.
func TestResolverTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		r := &Resolver{Lookup: func(ctx context.Context, _ string) ([]netip.Addr, time.Duration, error) {
			if calls++; calls > 1 {
				return addrs("1.1.1.1"), time.Hour, nil
			}
			<-ctx.Done()
			return nil, 0, context.Cause(ctx)
		}}
		defer r.Close()
		r.Follow("gw")
		time.Sleep(5*time.Second + 30*time.Second)
		synctest.Wait()
		if got := fmt.Sprint(r.Addrs("gw")); got != "[1.1.1.1]" {
			t.Errorf("got %s", got)
		}
	})
}
