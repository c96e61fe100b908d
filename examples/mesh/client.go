package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
)

// payload is what every request carries, to look for it where it must not be
// readable.
const payload = "the quick brown fox of the mesh"

// A client is an application in a pod that makes requests, each on a new
// connection, through its pod's SOCKS5 port.
type client struct{ pod *podnet.Pod }

func newClient(network *podnet.Network, ip netip.Addr) client { return client{network.Pod(ip)} }

func (c client) http() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true}}
}

// dial goes through the SOCKS5 port of the pod.
func (c client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	socks, err := proxy.SOCKS5("tcp", fmt.Sprintf(":%d", ztunnel.SOCKSPort), nil, podDialer{c.pod})
	if err != nil {
		return nil, err
	}
	return socks.(proxy.ContextDialer).DialContext(ctx, network, address)
}

// podDialer is a pod's network as package proxy wants it.
type podDialer struct{ *podnet.Pod }

func (d podDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// get makes one request.
func (c client) get(ctx context.Context, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(payload))
	if err != nil {
		return answer{}, err
	}
	resp, err := c.http().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var a answer
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %s", resp.Status)
	}
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// A tally is how many requests each pod of each cluster answered.
type tally struct {
	answers map[answer]int
	errs    []error
	elapsed time.Duration
}

// requests makes n requests, a few at a time.
func (c client) requests(ctx context.Context, url string, n int) tally {
	const concurrency = 16
	t := tally{answers: map[answer]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	begin := time.Now()
	for range concurrency {
		wg.Go(func() {
			for range todo {
				a, err := c.get(ctx, url)
				mu.Lock()
				if err != nil {
					t.errs = append(t.errs, err)
				} else {
					t.answers[a]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.elapsed = time.Since(begin)
	return t
}

func (t tally) answered() int {
	sum := 0
	for _, n := range t.answers {
		sum += n
	}
	return sum
}

// of returns how many requests a cluster answered.
func (t tally) of(cluster string) int {
	sum := 0
	for a, n := range t.answers {
		if a.Cluster == cluster {
			sum += n
		}
	}
	return sum
}

func (t tally) sorted() []answer {
	return slices.SortedFunc(maps.Keys(t.answers), func(a, b answer) int {
		return strings.Compare(a.Cluster+"/"+a.Pod, b.Cluster+"/"+b.Pod)
	})
}

// table shows the tally.
func (t tally) table(s *section) {
	out := s.table("CLUSTER", "POD", "ANSWERED")
	for _, a := range t.sorted() {
		out.row(a.Cluster, a.Pod, t.answers[a])
	}
}

// complete returns an error unless every request was answered.
func (t tally) complete(n int) error {
	if len(t.errs) > 0 {
		return fmt.Errorf("%d of %d requests failed, the first with: %w", len(t.errs), n, t.errs[0])
	}
	if t.answered() != n {
		return fmt.Errorf("%d of %d requests were answered", t.answered(), n)
	}
	return nil
}
