package interop

import (
	"slices"
	"testing"
)

// TestCalmSockets: no socket that carries what is measured keeps the system's
// congestion control, whoever made it.
func TestCalmSockets(t *testing.T) {
	w := newWorld(t)
	dial := w.IstioClient(must(w.IstioServer())(t), 1)
	conns, err := openAll(t.Context(), w, dial, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(conns)
	n := 0
	for fd, name := range tcpSockets() {
		n++
		if !slices.Contains(congestionControls, name) {
			t.Errorf("socket %d has congestion control %q", fd, name)
		}
	}
	if n < 4 { // two listeners, and a connection's two ends
		t.Errorf("%d TCP sockets found", n)
	}
}
