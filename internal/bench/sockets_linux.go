package bench

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setWithoutPacing sets the congestion control cubic, or reno where cubic is not to be
// had, as in a network namespace. A default of BBR paces even loopback, in
// favour of whoever makes few large sends.
func setWithoutPacing(fd int) error {
	if unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") == nil {
		return nil
	}
	return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
}

// withoutPacing is the Control of the sockets that are made here.
func withoutPacing(_, _ string, rc syscall.RawConn) error {
	var failed error
	if err := rc.Control(func(fd uintptr) { failed = setWithoutPacing(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// allWithoutPacing is for the sockets that others have made in this process, whatever
// they are.
func allWithoutPacing() error {
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, d := range descriptors {
		fd, err := strconv.Atoi(d.Name())
		if err != nil {
			return err
		}
		if _, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err != nil {
			continue // no TCP socket, or closed meanwhile
		}
		if err := setWithoutPacing(fd); err != nil {
			return err
		}
	}
	return nil
}

// cpuTime is what the process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
