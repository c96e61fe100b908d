package lb

import (
	"fmt"
	"testing"
)

// many returns targets in two networks, with weights from 1 to 7.
func many(n int) []Target[string] {
	targets := make([]Target[string], n)
	for i := range targets {
		targets[i] = at(fmt.Sprint("pod-", i), fmt.Sprint("n", i%2), fmt.Sprint("z", i%3))
		targets[i].Weight = uint32(1 + i%7)
	}
	return targets
}

func benchConfig(algorithm Algorithm) Config {
	return Config{
		Algorithm: algorithm,
		Source:    Locality{Network: "n0"},
		Policy:    Policy{Mode: Failover, Preferences: []Scope{Network}},
		Outlier:   Outlier{Failures: 5},
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for algorithm := WeightedRandom; algorithm <= Consistent; algorithm++ {
		for _, n := range []int{1, 10, 1000} {
			b := newBalancer(t, benchConfig(algorithm), many(n)...)
			exclude := []ID{1, 3, 5, 7}
			for name, request := range map[string]Request{"plain": {}, "exclude": {Exclude: exclude}} {
				allocs := testing.AllocsPerRun(200, func() {
					p, _ := b.Pick(request)
					p.Done(Outcome{})
				})
				if allocs != 0 {
					t.Errorf("%v, %d targets, %s: %v allocations per pick, want 0", algorithm, n, name, allocs)
				}
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for algorithm := WeightedRandom; algorithm <= Consistent; algorithm++ {
		for _, n := range []int{10, 1000, 100000} {
			b.Run(fmt.Sprintf("%v/targets=%d", algorithm, n), func(b *testing.B) {
				config := benchConfig(algorithm)
				balancer, err := New[string](config)
				if err != nil {
					b.Fatal(err)
				}
				if err := balancer.Update(many(n)); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				hash := uint64(0)
				for b.Loop() {
					hash++
					p, err := balancer.Pick(Request{Hash: hash})
					if err != nil {
						b.Fatal(err)
					}
					p.Done(Outcome{})
				}
			})
		}
	}
}

func BenchmarkPickParallel(b *testing.B) {
	balancer, err := New[string](benchConfig(WeightedRandom))
	if err != nil {
		b.Fatal(err)
	}
	if err := balancer.Update(many(1000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := balancer.Pick(Request{})
			if err != nil {
				b.Error(err)
				return
			}
			p.Done(Outcome{})
		}
	})
}

func BenchmarkPickExclude(b *testing.B) {
	balancer, err := New[string](benchConfig(WeightedRandom))
	if err != nil {
		b.Fatal(err)
	}
	if err := balancer.Update(many(100000)); err != nil {
		b.Fatal(err)
	}
	request := Request{Exclude: []ID{1, 3, 5}}
	b.ReportAllocs()
	for b.Loop() {
		p, err := balancer.Pick(request)
		if err != nil {
			b.Fatal(err)
		}
		p.Done(Outcome{})
	}
}

func BenchmarkUpdate(b *testing.B) {
	for algorithm := WeightedRandom; algorithm <= Consistent; algorithm++ {
		for _, n := range []int{10, 1000, 100000} {
			b.Run(fmt.Sprintf("%v/targets=%d", algorithm, n), func(b *testing.B) {
				balancer, err := New[string](benchConfig(algorithm))
				if err != nil {
					b.Fatal(err)
				}
				targets := many(n)
				b.ReportAllocs()
				for b.Loop() {
					if err := balancer.Update(targets); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
