package bench

import (
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Bulk measures the transfer of much data in 64 KiB writes.
type Bulk struct {
	Direction Direction
	Streams   int   // at once, each on a connection of its own
	Bytes     int64 // of each transfer, over all streams. If zero, 256 MiB
	Verify    bool  // whether both ends compute checksums, which cost time of their own
}

// Run measures the first way against the others, in CPU seconds per GB and MB/s.
func (m Bulk) Run(b *testing.B, ways ...Way) {
	if m.Bytes == 0 {
		m.Bytes = 256 << 20
	}
	each := m.Bytes / int64(m.Streams)
	runs := start(b, ways, m.Streams)
	for b.Loop() {
		for _, r := range runs {
			wall, cpu := r.together(b, func(conn net.Conn) error { return transfer(conn, m.Direction, each, m.Verify) })
			gigabytes := float64(each*int64(m.Streams)) / 1e9
			r.sample("cpu-s/GB", cpu.Seconds()/gigabytes)
			r.sample("MB/s", 1e3*gigabytes/wall.Seconds())
		}
	}
	report(b, runs, "cpu-s/GB", "MB/s")
}

// A PingPong measures how long 1 KiB takes there and back.
type PingPong struct {
	Streams int // at once
	Rounds  int // of each iteration, over all streams. If zero, 20,000
	Beside  int // streams that receive bulk data meanwhile
}

// Run measures the first way against the others: percentiles of single rounds in
// µs, CPU and allocations of each, rounds per second.
func (m PingPong) Run(b *testing.B, ways ...Way) {
	if m.Rounds == 0 {
		m.Rounds = 20_000
	}
	each := m.Rounds / m.Streams
	runs := start(b, ways, m.Streams+m.Beside)
	for b.Loop() {
		for _, r := range runs {
			var all sync.Mutex
			took := make([]time.Duration, 0, m.Rounds)
			stop := r.keepBusy(b, m.Streams)
			before := mallocs()
			wall, cpu := measure(b, m.Streams, func(i int) error {
				conn := r.conns[i]
				mine, err := pingPong(conn, each)
				all.Lock()
				defer all.Unlock()
				took = append(took, mine...)
				return err
			})
			stop()
			rounds := float64(each * m.Streams)
			r.sample("allocs", float64(mallocs()-before)/rounds)
			slices.Sort(took)
			r.sample("p50-us", micros(took[len(took)/2]))
			r.sample("p99-us", micros(took[len(took)*99/100]))
			r.sample("cpu-us", micros(cpu)/rounds)
			r.sample("ops/s", rounds/wall.Seconds())
		}
	}
	report(b, runs, "p50-us", "p99-us", "cpu-us", "ops/s", "allocs")
}

// keepBusy has all connections but the first few receive bulk data, until stop is called.
func (r *run) keepBusy(b *testing.B, first int) (stop func()) {
	var done atomic.Bool
	var all sync.WaitGroup
	for _, conn := range r.conns[first:] {
		all.Go(func() {
			for !done.Load() {
				if err := transfer(conn, Down, 4<<20, false); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	return func() {
		done.Store(true)
		all.Wait()
	}
}

func pingPong(conn net.Conn, rounds int) ([]time.Duration, error) {
	took := make([]time.Duration, 0, rounds)
	if _, err := conn.Write(appendRequest(nil, opEcho, int64(rounds)*messageSize)); err != nil {
		return nil, err
	}
	var message [messageSize]byte
	for range rounds {
		began := time.Now()
		if _, err := conn.Write(message[:]); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, message[:]); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// A Connect measures new connections that carry 1 KiB there and back, and are closed.
type Connect struct {
	AtOnce int
	Count  int // of each iteration. If zero, 4,000
}

// Run measures the first way against the others: connections per second, CPU and
// allocations of each.
func (m Connect) Run(b *testing.B, ways ...Way) {
	if m.Count == 0 {
		m.Count = 4_000
	}
	each := m.Count / m.AtOnce
	runs := start(b, ways, 0)
	for b.Loop() {
		for _, r := range runs {
			before := mallocs()
			wall, cpu := measure(b, m.AtOnce, func(int) error {
				for range each {
					if err := r.connectOnce(); err != nil {
						return err
					}
				}
				return nil
			})
			count := float64(each * m.AtOnce)
			r.sample("allocs", float64(mallocs()-before)/count)
			r.sample("ops/s", count/wall.Seconds())
			r.sample("cpu-us", micros(cpu)/count)
		}
	}
	report(b, runs, "ops/s", "cpu-us", "allocs")
}

// connectOnce leaves the close to the client: who closes first is left with TCP's TIME_WAIT.
func (r *run) connectOnce() error {
	conn, err := r.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := messages.Get().(*[requestSize + messageSize]byte)
	defer messages.Put(buf)
	appendRequest(buf[:0], opEcho, messageSize)
	if _, err := conn.Write(buf[:]); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, buf[:messageSize])
	return err
}

// A run is one way in use, with what was measured of it.
type run struct {
	name    string
	dial    Dial
	conns   []net.Conn
	samples map[string][]float64
}

// start starts all ways, and makes connections over each.
func start(b *testing.B, ways []Way, conns int) []*run {
	var runs []*run
	for _, w := range ways {
		r := &run{name: w.Name, dial: w.Start(b, serve), samples: make(map[string][]float64)}
		if err := r.connectOnce(); err != nil { // so that tunnels are warm
			b.Fatalf("%s: %v", w.Name, err)
		}
		for range conns {
			conn, err := r.dial()
			if err != nil {
				b.Fatalf("%s: %v", w.Name, err)
			}
			b.Cleanup(func() { conn.Close() })
			r.conns = append(r.conns, conn)
		}
		runs = append(runs, r)
	}
	if err := allWithoutPacing(); err != nil {
		b.Fatal(err)
	}
	return runs
}

// together does something on all connections at once.
func (r *run) together(b *testing.B, do func(net.Conn) error) (wall, cpu time.Duration) {
	return measure(b, len(r.conns), func(i int) error { return do(r.conns[i]) })
}

func measure(b *testing.B, n int, do func(int) error) (wall, cpu time.Duration) {
	runtime.GC() // what others have left is not on this one's account
	began, used := time.Now(), cpuTime()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			anywhere(func() {
				if err := do(i); err != nil {
					b.Error(err)
				}
			})
		})
	}
	all.Wait()
	return time.Since(began), cpuTime() - used
}

func (r *run) sample(unit string, v float64) { r.samples[unit] = append(r.samples[unit], v) }

func (r *run) median(unit string) float64 {
	s := slices.Sorted(slices.Values(r.samples[unit]))
	return s[len(s)/2]
}

// report prints the medians of the first way, and its ratios to the others'.
func report(b *testing.B, runs []*run, units ...string) {
	b.ReportMetric(0, "ns/op") // of no meaning: an iteration is all ways together
	for _, unit := range units {
		ours := runs[0].median(unit)
		b.ReportMetric(ours, unit)
		for _, other := range runs[1:] {
			if theirs := other.median(unit); theirs > 0 {
				b.ReportMetric(ours/theirs, unit+"/"+other.name)
			}
		}
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
