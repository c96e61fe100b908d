package interop

import (
	"context"
	"iter"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// congestionControls are what sockets are set to, the first of them that the
// system allows. Pacing, as BBR's, distorts what is measured on loopback.
var congestionControls = []string{"cubic", "reno"}

func setCongestionControl(fd int) (name string, err error) {
	for _, name = range congestionControls {
		if err = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); err == nil {
			return name, nil
		}
	}
	return "", err
}

func control(_, _ string, rc syscall.RawConn) error {
	var err error
	if e := rc.Control(func(fd uintptr) { _, err = setCongestionControl(int(fd)) }); e != nil {
		return e
	}
	return err
}

// listen listens on loopback. Accepted connections inherit the socket's
// congestion control.
func listen() (net.Listener, error) {
	lc := net.ListenConfig{Control: control}
	return lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
}

// dialTCP connects with the same congestion control.
func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Control: control}).DialContext(ctx, network, address)
}

// calmSockets sets the congestion control of all TCP sockets of the process:
// pkg/hbone gives no way to do so for those that it dials. It returns its name.
func calmSockets() (name string, err error) {
	for fd := range tcpSockets() {
		if name, err = setCongestionControl(fd); err != nil {
			return "", err
		}
	}
	return name, nil
}

// tcpSockets yields the process's TCP sockets, and their congestion control.
func tcpSockets() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		fds, _ := os.ReadDir("/proc/self/fd")
		for _, e := range fds {
			fd, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
			if err == nil && !yield(fd, name) { // an error: something else, or closed meanwhile
				return
			}
		}
	}
}

// cpuTime is what the process has used, kernel time included.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
