// Command echo is an application for the examples: an HTTP server in a pod that
// answers with a line that says which pod it is, and with what it was sent.
//
//	echo -name reviews-1.east -listen 10.1.0.10:8080 -podnet run/east -underlay run/underlay
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
)

func main() {
	cmdline.Main("echo", func(ctx context.Context, args []string, _ cmdline.Getenv, stdout, stderr io.Writer) error {
		return run(ctx, args, stdout, stderr)
	})
}

// maxEcho bounds what is sent back, in bytes.
const maxEcho = 1 << 20

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := cmdline.NewFlagSet("echo", stderr)
	network := cmdline.AddPodNetwork(fs)
	name := fs.String("name", "echo", "what to answer with")
	listen := fs.String("listen", "", "address of the pod and port to serve HTTP on (required)")
	if err := cmdline.Parse(fs, args); err != nil {
		return err
	}
	if *listen == "" {
		return &cmdline.UsageError{Err: errors.New("-listen is required")}
	}
	pods, underlay, err := network.Open()
	if err != nil {
		return err
	}
	defer underlay.Close()
	defer pods.Close()
	l, err := pods.Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, *name)
			if _, err := io.Copy(w, http.MaxBytesReader(w, r.Body, maxEcho)); err != nil {
				panic(http.ErrAbortHandler) // the client must not take a part for the whole
			}
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Fprintf(stdout, "%s listens on %s\n", *name, *listen)
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
