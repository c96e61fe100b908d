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
	Path string
	Err  error // what is wrong with it
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("xds: store %s is corrupt: %v", e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// RejectedError says that a server has a resource which Type.Handle refused.
type RejectedError struct {
	TypeURL, Name string
	Err           error // from Handle
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("xds: %s %s rejected: %v", e.TypeURL, e.Name, e.Err)
}

func (e *RejectedError) Unwrap() error { return e.Err }
