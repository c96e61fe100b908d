package ztunnel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/socks5"
	"github.com/eastwest-mesh/eastwest/hbone"
	"github.com/eastwest-mesh/eastwest/lb"
)

const (
	greetingTimeout = 10 * time.Second

	// connectTimeout bounds all attempts for one connection together.
	connectTimeout = 30 * time.Second
)

// serveSOCKS serves the pod's applications until ctx ends or l fails, and waits
// for their connections.
func (d *pod) serveSOCKS(ctx context.Context, l net.Listener) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		serving.Go(func() { d.serveSOCKSConn(ctx, conn) })
	}
}

func (d *pod) serveSOCKSConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// Whoever is let in speaks with the pod's identity.
	if !d.isOwn(conn.RemoteAddr()) {
		d.proxy.cfg.Logger.Warn("a SOCKS5 client is not of the pod", "workload", d.uid(), "client", conn.RemoteAddr())
		return
	}
	conn.SetDeadline(time.Now().Add(greetingTimeout))
	req, err := socks5.Accept(conn)
	if err != nil {
		d.proxy.cfg.Logger.Debug("bad SOCKS5 client", "workload", d.uid(), "error", err)
		return
	}
	conn.SetDeadline(time.Time{})
	up, done, err := d.connect(ctx, req.Address, conn.RemoteAddr())
	if err != nil {
		_ = req.Refuse(socksReply(err)) // a client that is gone needs no answer
		return
	}
	if err := req.Grant(); err != nil {
		up.Close()
		done(nil)
		return
	}
	_, err = hbone.Relay(ctx, conn, up)
	done(err)
}

// isOwn reports whether a client is in the pod, or on its loopback interface.
func (d *pod) isOwn(client net.Addr) bool {
	ip := addrPort(client).Addr()
	return ip.IsLoopback() || slices.Contains(d.addresses, ip)
}

func socksReply(err error) socks5.Reply {
	var status *hbone.StatusError
	switch {
	case errors.As(err, &status) && (status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden):
		return socks5.NotAllowed
	case errors.Is(err, ErrUnknownHost), errors.Is(err, lb.ErrNoTarget):
		return socks5.HostUnreachable
	default:
		return socks5.ConnectionRefused
	}
}
