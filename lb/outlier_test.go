package lb

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = errors.New("refused")

// fail reports failures of one target until it was picked n times.
func fail(t *testing.T, b *Balancer[string], name string, n int, err error) {
	t.Helper()
	for range 100 * n {
		p := mustPick(t, b, Request{})
		if p.Value != name {
			p.Done(Outcome{})
			continue
		}
		p.Done(Outcome{Err: err})
		if n--; n == 0 {
			return
		}
	}
	t.Fatalf("%s is not picked any more", name)
}

func TestOutlierEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBalancer(t, Config{Outlier: Outlier{Failures: 3}}, weighted("a", 1), weighted("b", 1))
		fail(t, b, "a", 2, errRefused)
		fail(t, b, "a", 1, nil) // a success in between starts the count anew
		fail(t, b, "a", 2, errRefused)
		fail(t, b, "a", 5, fmt.Errorf("gave up: %w", context.Canceled))
		wantPicked(t, b, Request{}, "a", "b")

		fail(t, b, "a", 3, errRefused)
		wantPicked(t, b, Request{}, "b")
		if r := b.Explain()[0]; r.Verdict != Ejected {
			t.Errorf("verdict %v, want Ejected", r.Verdict)
		}
		time.Sleep(30*time.Second - 1)
		wantPicked(t, b, Request{}, "b")
		time.Sleep(time.Nanosecond)
		wantPicked(t, b, Request{}, "a", "b")

		fail(t, b, "a", 3, errRefused) // the second time is twice as long
		time.Sleep(time.Minute - 1)
		wantPicked(t, b, Request{}, "b")
		time.Sleep(time.Nanosecond)
		wantPicked(t, b, Request{}, "a", "b")

		time.Sleep(5 * time.Minute) // long enough to be forgiven
		fail(t, b, "a", 3, errRefused)
		time.Sleep(30 * time.Second)
		wantPicked(t, b, Request{}, "a", "b")
	})
}

func TestOutlierLimits(t *testing.T) {
	for _, tt := range []struct {
		name    string
		targets int
		percent int
		ejected int
	}{
		{"the only one stays", 1, 100, 0},
		{"one may go", 3, 1, 1},
		{"half by default", 4, 0, 2},
		{"never all", 4, 100, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var targets []Target[string]
			for i := range tt.targets {
				targets = append(targets, weighted(fmt.Sprint(i), 1))
			}
			b := newBalancer(t, Config{Outlier: Outlier{Failures: 1, MaxPercent: tt.percent}}, targets...)
			for range 200 {
				mustPick(t, b, Request{}).Done(Outcome{Err: errRefused})
			}
			ejected := 0
			for _, r := range b.Explain() {
				if r.Verdict == Ejected {
					ejected++
				}
			}
			if ejected != tt.ejected {
				t.Errorf("%d are ejected, want %d", ejected, tt.ejected)
			}
		})
	}
}

func TestEjectedIsBetterThanNothing(t *testing.T) {
	b := newBalancer(t, Config{Outlier: Outlier{Failures: 1}}, weighted("a", 1), weighted("b", 1))
	fail(t, b, "a", 1, errRefused)
	if err := b.Update([]Target[string]{weighted("a", 1)}); err != nil {
		t.Fatal(err)
	}
	wantPicked(t, b, Request{}, "a")
	if err := b.Update([]Target[string]{weighted("a", 1), weighted("b", 1)}); err != nil {
		t.Fatal(err)
	}
	wantPicked(t, b, Request{}, "b")
}

func TestEjectionFailsOver(t *testing.T) {
	b := newBalancer(t, Config{
		Source:  Locality{Network: "n1"},
		Policy:  Policy{Mode: Failover, Preferences: []Scope{Network}},
		Outlier: Outlier{Failures: 1},
	}, at("near", "n1", ""), at("far", "n2", ""))
	fail(t, b, "near", 1, errRefused)
	wantPicked(t, b, Request{}, "far")
}
