package xds

import (
	"fmt"
	"net"
)

// ErrClosed is what a Client returns after Close. It is a net.ErrClosed.
var ErrClosed = fmt.Errorf("xds: client closed: %w", net.ErrClosed)

// ConfigError says which field of a Client cannot be used, and why.
type ConfigError struct {
	Field  string
	Reason string
}

func (e *ConfigError) Error() string { return "xds: " + e.Field + ": " + e.Reason }

// TypeError says that a type was named which the Client does not keep, or not on demand.
type TypeError struct {
	TypeURL string
	Reason  string
}

func (e *TypeError) Error() string { return fmt.Sprintf("xds: type %q: %s", e.TypeURL, e.Reason) }

// CorruptError says that a FileStore's file is not what was saved.
type CorruptError struct {
	Path   string
	Reason string
	Err    error // may be nil
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("xds: store %s: %s: %v", e.Path, e.Reason, e.Err)
	}
	return fmt.Sprintf("xds: store %s: %s", e.Path, e.Reason)
}

func (e *CorruptError) Unwrap() error { return e.Err }
