package interop

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options say what [Compare] measures.
type Options struct {
	Repetitions int           // of each measure and peer; medians are reported
	Time        time.Duration // of one repetition, about
	Match       string        // part of the names of what is measured; empty: all
	Verify      bool          // compare checksums of all that is moved
}

// Compare measures all peers by turns and writes a table: for each metric the
// medians, and how many times better than pkg/hbone each peer is.
func Compare(ctx context.Context, out io.Writer, o Options) error {
	congestion, err := congestionControl()
	if err != nil {
		return fmt.Errorf("congestion control: %w", err)
	}
	fmt.Fprintf(out, "%s %s/%s, %d CPUs; TCP congestion control: %s; medians of %d\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), congestion, o.Repetitions)
	fmt.Fprintf(out, "%-30s %-10s %-16s %9s %9s %9s  %s\n", "measure", "unit", "peer", "median", "least", "most", "times better than pkg-hbone")
	for _, m := range Measures() {
		if !strings.Contains(m.Name, o.Match) {
			continue
		}
		samples, err := m.compare(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		m.report(out, samples)
	}
	return nil
}

// compare returns the samples of each peer, by its place in m.Peers.
func (m Measure) compare(ctx context.Context, o Options) ([][]Sample, error) {
	w, err := NewWorld(o.Verify)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	dials, counts := make([]DialFunc, len(m.Peers)), make([]int, len(m.Peers))
	for i, p := range m.Peers {
		if dials[i], err = p.Make(w, m.Hops); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		if counts[i], err = m.calibrate(ctx, w, dials[i], o.Time); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	samples := make([][]Sample, len(m.Peers))
	for range o.Repetitions {
		for i, p := range m.Peers {
			runtime.GC()
			s, err := m.measure(ctx, w, dials[i], counts[i], noStopwatch{})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	return samples, nil
}

// calibrate finds how many operations take about d. It warms up the peer too.
func (m Measure) calibrate(ctx context.Context, w *World, dial DialFunc, d time.Duration) (n int, err error) {
	for n = 64; ; n *= 4 {
		s, err := m.measure(ctx, w, dial, n, noStopwatch{})
		if err != nil {
			return 0, err
		}
		if s.Elapsed > d/8 {
			return max(64, int(float64(n)*float64(d)/float64(s.Elapsed))), nil
		}
	}
}

// report writes the rows of a measure.
func (m Measure) report(w io.Writer, samples [][]Sample) {
	for _, metric := range m.Metrics {
		base := medianOf(metric, samples[slices.IndexFunc(m.Peers, func(p Peer) bool { return p.Name == Istio.Name })])
		for i, p := range m.Peers {
			values := valuesOf(metric, samples[i])
			median := values[len(values)/2]
			times := base / median
			if metric.MoreIsBetter {
				times = median / base
			}
			fmt.Fprintf(w, "%-30s %-10s %-16s %9.4g %9.4g %9.4g  %5.2f\n",
				m.Name, metric.Unit, p.Name, median, values[0], values[len(values)-1], times)
		}
	}
}

// congestionControl says what sockets are set to.
func congestionControl() (name string, err error) {
	l, err := listen()
	if err != nil {
		return "", err
	}
	defer l.Close()
	return calmSockets()
}

func medianOf(m Metric, samples []Sample) float64 {
	values := valuesOf(m, samples)
	return values[len(values)/2]
}

// valuesOf returns a metric of all samples, sorted.
func valuesOf(m Metric, samples []Sample) []float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, m.Of(s))
	}
	slices.Sort(values)
	return values
}
