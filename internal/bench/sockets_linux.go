package bench

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// withoutPacing sets the congestion control cubic, or reno where cubic is not to be
// had, as in a network namespace. A default of BBR paces even loopback, in
// favour of whoever makes few large sends.
func withoutPacing(_, _ string, rc syscall.RawConn) error {
	var failed error
	err := rc.Control(func(fd uintptr) {
		failed = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
		if failed != nil {
			failed = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// cpuTime is what the process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
