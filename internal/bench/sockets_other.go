//go:build !linux

package bench

import (
	"syscall"
	"time"
)

func withoutPacing(string, string, syscall.RawConn) error { return nil }

func allWithoutPacing() error { return nil }

func cpuTime() time.Duration { return 0 }
