package podnet_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

func TestTwoNetworksShareADirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, podnet.Config{Dir: dir}), open(t, podnet.Config{Dir: dir})
	l := listen(t, a, "10.1.0.10:8080")
	answer(t, l, "from a")
	if got := ask(t, b, "10.1.0.10:8080"); got != "from a" {
		t.Errorf("answered %q", got)
	}
	if _, err := b.Listen(t.Context(), "tcp", "10.1.0.10:8080"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same address twice: %v", err)
	}
	l.Close()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left in the directory: %v", left)
	}
}

// A process that was killed leaves its files; the ports in them may belong to
// anybody by now.
func TestFilesOfADeadProcess(t *testing.T) {
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	go func() {
		for {
			c, err := stranger.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	dir := t.TempDir()
	n := open(t, podnet.Config{Dir: dir})
	other := listen(t, n, "10.1.0.99:1")
	socketOfOther, err := os.ReadFile(filepath.Join(dir, "tcp-10.1.0.99-1"))
	if err != nil {
		t.Fatal(err)
	}
	_ = other
	for name, content := range map[string]string{
		"nobody":             closed.Addr().String(),
		"a stranger":         stranger.Addr().String(),
		"another pod's port": string(socketOfOther),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "tcp-10.1.0.10-8080"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := n.DialContext(t.Context(), "tcp", "10.1.0.10:8080"); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial: %v", err)
			}
			l, err := n.Listen(t.Context(), "tcp", "10.1.0.10:8080")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
		})
	}
	t.Run("not an address", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(dir, "tcp-10.1.0.10-8080"), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := n.DialContext(t.Context(), "tcp", "10.1.0.10:8080"); err == nil {
			t.Error("dialled nonsense")
		}
	})
}

func TestDeadUDPSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	n := open(t, podnet.Config{Dir: dir})
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	if err := os.WriteFile(filepath.Join(dir, "udp-fd00__1-53"), []byte(dead.LocalAddr().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ListenPacket(t.Context(), "udp", "[fd00::1]:53"); err != nil {
		t.Error(err)
	}
	if _, err := n.ListenPacket(t.Context(), "udp", "[fd00::1]:53"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a live one was replaced: %v", err)
	}
}

// Whoever connects to the loopback socket and says nothing does not hold up
// Close.
func TestCloseDoesNotWaitForSilence(t *testing.T) {
	dir := t.TempDir()
	n := open(t, podnet.Config{Dir: dir})
	l := listen(t, n, "10.1.0.10:8080")
	socket, err := os.ReadFile(filepath.Join(dir, "tcp-10.1.0.10-8080"))
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", strings.TrimSpace(string(socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	l.Close()
	if size, err := silent.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", size)
	}
}
