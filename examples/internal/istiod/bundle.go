package istiod

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/eastwest-mesh/eastwest/identity/federation"
)

// bundleHint is when other meshes should fetch the roots again.
const bundleHint = 5 * time.Minute

// ServeBundle serves the roots of the mesh on l by HTTPS, as a SPIFFE bundle
// endpoint, to meshes that federate with this one: until ctx ends, whose cause
// it returns. It closes l. There is nothing secret in it.
func (s *Server) ServeBundle(ctx context.Context, l net.Listener) error {
	defer l.Close()
	cert, err := newServingCertificate(s.cfg.Authority, s.cfg.ServerNames, s.cfg.Logger)
	if err != nil {
		return err
	}
	handler, err := federation.NewHandler(s.cfg.Authority.TrustDomain(), s.cfg.Authority, bundleHint)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:      handler,
		TLSConfig:    &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get},
		ReadTimeout:  10 * time.Second,
		WriteTimeout: 10 * time.Second,
		ErrorLog:     slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err = server.ServeTLS(l, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return context.Cause(ctx)
	}
	return err
}
