package bench

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSocketsOfOthers: no socket keeps the system's congestion control, whoever made it.
func TestSocketsOfOthers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rc, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := allWithoutPacing(); err != nil {
		t.Fatal(err)
	}
	var name string
	if e := rc.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if name != "cubic" && name != "reno" {
		t.Errorf("a socket has congestion control %q", name)
	}
}
