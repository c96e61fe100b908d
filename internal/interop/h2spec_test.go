package interop

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

// inapplicable are the cases of h2spec that the engine fails on purpose, and why.
// h2spec tests for RFC 7540, and asks by GET and POST.
var inapplicable = map[string]string{
	"http2/5.3.1/1": "RFC 9113 §5.3.2: the priority fields of a HEADERS frame are ignored, a dependency on itself too",
	"http2/5.3.1/2": "RFC 9113 §5.3.2: PRIORITY frames are ignored, a dependency on itself too",
	// The DATA frames of a CONNECT are no content that a length could be of.
	"http2/8.1.2.6/1": "RFC 9113 §8.5, RFC 9110 §9.3.6: a CONNECT has no content, so no content-length to compare",
	"http2/8.1.2.6/2": "RFC 9113 §8.5, RFC 9110 §9.3.6: a CONNECT has no content, so no content-length to compare",
}

// TestH2Spec holds the engine's server to h2spec, strict cases included.
func TestH2Spec(t *testing.T) {
	addr := serveAnyMethod(t)
	cfg := &config.Config{
		Host:         addr.IP.String(),
		Port:         addr.Port,
		Path:         "/",
		Timeout:      5 * time.Second, // only cases that fail wait for it
		MaxHeaderLen: 4000,
		Strict:       true,
	}
	known := make(map[string]bool)
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		runSpecGroup(t, cfg, group, known)
	}
	if len(known) < 100 {
		t.Errorf("h2spec has %d cases, want more than 100", len(known))
	}
	for id := range inapplicable {
		if !known[id] {
			t.Errorf("h2spec has no case %s", id)
		}
	}
}

// runSpecGroup runs the cases of a group and of those below, each as a subtest
// that is named as h2spec names it, and adds their names to known.
func runSpecGroup(t *testing.T, cfg *config.Config, group *spec.TestGroup, known map[string]bool) {
	for i, c := range slices.Concat(group.Tests, group.StrictTests) {
		id := fmt.Sprintf("%s/%d", group.ID(), i+1)
		known[id] = true
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			runSpecCase(t, cfg, c, inapplicable[id])
		})
	}
	for _, sub := range group.Groups {
		runSpecGroup(t, cfg, sub, known)
	}
}

// runSpecCase runs one case. If there is a reason for it to fail, it must.
func runSpecCase(t *testing.T, cfg *config.Config, c *spec.TestCase, reason string) {
	conn, err := spec.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = c.Run(cfg, conn)
	switch {
	case err != nil && reason == "":
		t.Errorf("%s. %s\n%v", c.Desc, c.Requirement, err)
	case err == nil && reason != "":
		t.Errorf("%s: passes, but should not: %s", c.Desc, reason)
	}
}

// serveAnyMethod runs an engine that answers requests of every method by status
// 200 and a short body.
func serveAnyMethod(t *testing.T) *net.TCPAddr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var conns []*h2.Conn // some that h2spec leaves open
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			// h2spec takes it that no larger frames are allowed than every peer must.
			c, err := h2.NewServer(nc, h2.Config{AnyMethod: true, MaxFrameSize: 16 << 10}, answerAny)
			if err != nil {
				t.Error(err)
				return
			}
			conns = append(conns, c)
		}
	})
	return l.Addr().(*net.TCPAddr)
}

func answerAny(s *h2.Stream) {
	defer s.Close()
	if s.Accept(nil) != nil {
		return
	}
	_, _ = io.WriteString(s, "conformance\n")
	_ = s.CloseWrite()
	_, _ = io.Copy(io.Discard, s)
}
