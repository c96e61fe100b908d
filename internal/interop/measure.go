package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Measure is something that can be measured of each of its peers.
type Measure struct {
	Name    string // as of a benchmark
	Hops    int
	Peers   []Peer // Istio is among them
	Bytes   int    // moved by one operation; 0 if that is not the point
	Metrics []Metric
	load    load
}

// A load does n operations over dial. What it gives to timed is measured.
type load func(ctx context.Context, w *World, dial DialFunc, n int, timed func(work func() error) error) (latencies, error)

// latencies are of single operations, if they were taken.
type latencies []time.Duration

// A Sample is what one run of a Measure gave.
type Sample struct {
	Operations, Bytes int
	Elapsed, CPU      time.Duration // CPU is of the whole process: both ends, and the kernel
	latencies         latencies     // sorted
}

// A Metric is one number of a Sample.
type Metric struct {
	Unit         string
	MoreIsBetter bool
	Of           func(Sample) float64
}

var (
	cpuPerGB = Metric{"cpu-s/GB", false, func(s Sample) float64 { return s.CPU.Seconds() * 1e9 / float64(s.Operations*s.Bytes) }}
	p50      = Metric{"p50-µs", false, func(s Sample) float64 { return s.percentile(50) }}
	p99      = Metric{"p99-µs", false, func(s Sample) float64 { return s.percentile(99) }}
	perSec   = Metric{"ops/s", true, func(s Sample) float64 { return float64(s.Operations) / s.Elapsed.Seconds() }}
	cpuPerOp = Metric{"cpu-µs/op", false, func(s Sample) float64 { return float64(s.CPU.Microseconds()) / float64(s.Operations) }}
)

func (s Sample) percentile(p int) float64 {
	if len(s.latencies) == 0 {
		return 0
	}
	return float64(s.latencies[(len(s.latencies)-1)*p/100].Nanoseconds()) / 1e3
}

// peersOf are those to compare where streams of a kind are measured.
func peersOf(hops int, limit Peer) []Peer {
	if hops == 1 {
		return []Peer{Istio, Ours, limit}
	}
	return []Peer{Istio, Ours, OursNested, limit}
}

// Measures returns all that can be measured.
func Measures() []Measure {
	var all []Measure
	for _, shape := range []struct{ hops, streams int }{{1, 1}, {1, 64}, {2, 1}, {2, 64}} {
		for _, dir := range []string{"up", "down"} {
			all = append(all, Measure{
				Name:    fmt.Sprintf("Bulk/hops=%d/streams=%d/%s", shape.hops, shape.streams, dir),
				Hops:    shape.hops,
				Peers:   peersOf(shape.hops, TLS),
				Bytes:   chunk,
				Metrics: []Metric{cpuPerGB},
				load:    bulkLoad(shape.streams, dir == "up"),
			})
		}
	}
	for hops := 1; hops <= 2; hops++ {
		all = append(all, Measure{
			Name:    fmt.Sprintf("PingPong/hops=%d", hops),
			Hops:    hops,
			Peers:   peersOf(hops, TLS),
			Metrics: []Metric{p50, p99, cpuPerOp},
			load:    pingPong,
		})
	}
	for hops := 1; hops <= 2; hops++ {
		for _, atATime := range []int{1, 64} {
			all = append(all, Measure{
				Name:    fmt.Sprintf("Connect/hops=%d/at-a-time=%d", hops, atATime),
				Hops:    hops,
				Peers:   peersOf(hops, TCP),
				Metrics: []Metric{perSec, cpuPerOp},
				load:    connectLoad(atATime),
			})
		}
	}
	return all
}

// A stopwatch runs while a Measure takes a Sample. It is a *testing.B, or nothing.
type stopwatch interface {
	StartTimer()
	StopTimer()
}

type noStopwatch struct{}

func (noStopwatch) StartTimer() {}
func (noStopwatch) StopTimer()  {}

// measure runs m once.
func (m Measure) measure(ctx context.Context, w *World, dial DialFunc, n int, watch stopwatch) (Sample, error) {
	s := Sample{Operations: n, Bytes: m.Bytes}
	lat, err := m.load(ctx, w, dial, n, func(work func() error) error {
		watch.StartTimer()
		defer watch.StopTimer()
		cpu, start := cpuTime(), time.Now()
		err := work()
		s.Elapsed, s.CPU = time.Since(start), cpuTime()-cpu
		return err
	})
	slices.Sort(lat)
	s.latencies = lat
	return s, err
}

// openAll opens streams, and sets the congestion control of what carries them.
func openAll(ctx context.Context, w *World, dial DialFunc, n int) ([]net.Conn, error) {
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dial(ctx, w.Authority())
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, c)
	}
	if _, err := calmSockets(); err != nil {
		closeAll(conns)
		return nil, err
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// bulkLoad moves n chunks, divided among streams.
func bulkLoad(streams int, up bool) load {
	move := download
	if up {
		move = upload
	}
	return func(ctx context.Context, w *World, dial DialFunc, n int, timed func(func() error) error) (latencies, error) {
		conns, err := openAll(ctx, w, dial, streams)
		if err != nil {
			return nil, err
		}
		defer closeAll(conns)
		return nil, timed(func() error {
			var g errgroup.Group
			for i, c := range conns {
				share := n*(i+1)/streams - n*i/streams
				g.Go(func() error { return move(c, int64(share)*chunk, w.App.verify) })
			}
			return g.Wait()
		})
	}
}

// message is what an application says, and gets back, in a ping-pong.
const message = 1 << 10

// pingPong sends n messages over one stream, each after the echo of the one before.
func pingPong(ctx context.Context, w *World, dial DialFunc, n int, timed func(func() error) error) (latencies, error) {
	conns, err := openAll(ctx, w, dial, 1)
	if err != nil {
		return nil, err
	}
	defer closeAll(conns)
	if err := ask(conns[0], echo, 0); err != nil {
		return nil, err
	}
	buf := make([]byte, message)
	for range 100 { // the first ones are not typical
		if err := roundTrip(conns[0], buf); err != nil {
			return nil, err
		}
	}
	taken := make(latencies, 0, n)
	err = timed(func() error {
		for range n {
			start := time.Now()
			if err := roundTrip(conns[0], buf); err != nil {
				return err
			}
			taken = append(taken, time.Since(start))
		}
		return nil
	})
	return taken, err
}

func roundTrip(c io.ReadWriter, buf []byte) error {
	if _, err := c.Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf)
	return err
}

// connectLoad makes n connections to the application over warm tunnels, some at
// a time: each has one message echoed and is closed.
func connectLoad(atATime int) load {
	return func(ctx context.Context, w *World, dial DialFunc, n int, timed func(func() error) error) (latencies, error) {
		if err := connectOnce(ctx, w, dial); err != nil {
			return nil, err
		}
		return nil, timed(func() error {
			var g errgroup.Group
			for i := range atATime {
				share := n*(i+1)/atATime - n*i/atATime
				g.Go(func() error {
					for range share {
						if err := connectOnce(ctx, w, dial); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return g.Wait()
		})
	}
}

func connectOnce(ctx context.Context, w *World, dial DialFunc) error {
	c, err := dial(ctx, w.Authority())
	if err != nil {
		return err
	}
	defer c.Close()
	// The command and the message in one write, as an application would send them.
	var buf [commandSize + message]byte
	buf[0] = byte(echo)
	if _, err := c.Write(buf[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, buf[:message]); err != nil {
		return err
	}
	return c.Close()
}
