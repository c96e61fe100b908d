package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"-listen is required":               nil,
		"-podnet and -underlay are require": {"-listen", "10.1.0.10:8080"},
	} {
		err := run(t.Context(), args, io.Discard, io.Discard)
		var usage *cmdline.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestEcho answers from another process's point of view: by the directory that
// they share.
func TestEcho(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out, said := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-name", "reviews-1", "-listen", "10.1.0.10:8080",
			"-podnet", filepath.Join(dir, "pods"), "-underlay", filepath.Join(dir, "underlay")}, said, io.Discard)
	}()
	line := make([]byte, 64)
	n, err := out.Read(line)
	if got := string(line[:n]); got != "reviews-1 listens on 10.1.0.10:8080\n" || err != nil {
		t.Fatalf("said %q, %v", got, err)
	}
	network, err := podnet.New(podnet.Config{Dir: filepath.Join(dir, "pods")})
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return network.DialContext(ctx, "tcp", "10.1.0.10:8080")
	}}}
	resp, err := client.Post("http://reviews/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "reviews-1\nhello" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run = %v", err)
	}
}
