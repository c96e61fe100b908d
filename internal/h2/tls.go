package h2

import (
	"crypto/tls"
	"net"
)

// A TLSConn is a TLS connection over a record coalescer: once a [Conn] uses it,
// its records are gathered and sent without ever blocking inside crypto/tls,
// whose connections do not survive a write that timed out.
type TLSConn struct {
	*tls.Conn
}

// TLSClient is tls.Client over a record coalescer.
func TLSClient(raw net.Conn, cfg *tls.Config) *TLSConn { return &TLSConn{tls.Client(raw, cfg)} }

// TLSServer is tls.Server over a record coalescer.
func TLSServer(raw net.Conn, cfg *tls.Config) *TLSConn { return &TLSConn{tls.Server(raw, cfg)} }
