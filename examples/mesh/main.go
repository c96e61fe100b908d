// Command mesh shows two clusters at work in one process: each with a control
// plane, an east-west gateway, a node proxy and a few HTTP applications, whose
// pods have the same addresses in both. It needs no privileges: pod networks
// are mapped to loopback sockets.
//
//	go run ./examples/mesh            tell the story
//	go run ./examples/mesh -json      the same as JSON
//	go run ./examples/mesh -serve     keep the clusters up afterwards
//	go run ./examples/mesh -config D  with the clusters in D/east and D/west
//
// It exits with 0 only if everything that it claims was seen to hold.
package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/eastwest-mesh/eastwest/examples/internal/cmdline"
)

//go:embed clusters
var embedded embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	config  string
	json    bool
	serve   bool
	timeout time.Duration
}

// run returns the exit status: 0 if all held, 1 if something did not, 2 if the
// command line makes no sense.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cmdline.Exit(stderr, "mesh", tell(ctx, args, stdout, stderr))
}

func tell(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := cmdline.NewFlagSet("mesh", stderr)
	flags.StringVar(&o.config, "config", "", "directory with one directory of Kubernetes YAML for each cluster, named east and west (default: built in)")
	flags.BoolVar(&o.json, "json", false, "print the story as JSON")
	flags.BoolVar(&o.serve, "serve", false, "keep the clusters up after the story, until interrupted")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Second, "how long the story may take")
	logger := cmdline.AddLogger(flags)
	if err := cmdline.Parse(flags, args); err != nil {
		return err
	}
	return o.run(ctx, stdout, settings{logger: logger(stderr), directory: o.config}, stderr)
}

func (o options) run(ctx context.Context, stdout io.Writer, s settings, stderr io.Writer) error {
	begin := time.Now()
	config, err := o.clusters()
	if err != nil {
		return err
	}
	telling, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the story took longer than %v", o.timeout))
	defer cancel()
	w, err := newWorld(telling, config, s)
	if err != nil {
		return err
	}
	defer w.close()
	out := stdout
	if o.json {
		out = io.Discard
	}
	fmt.Fprintln(out, "Two clusters, east and west, in one process. Their pods have the same addresses.")
	story, err := newStory(w, out)
	if err != nil {
		return err
	}
	told := story.tell(telling)
	if o.json {
		if err := story.report.writeJSON(stdout); err != nil {
			return err
		}
	}
	if told != nil {
		return told
	}
	if failed := story.report.failed(); len(failed) > 0 {
		return fmt.Errorf("%d of %d checks failed: %s", len(failed), len(story.report.names()), strings.Join(failed, ", "))
	}
	fmt.Fprintf(out, "\nAll %d checks held, in %.1f s.\n", len(story.report.names()), time.Since(begin).Seconds())
	if o.serve {
		return w.serve(ctx, stderr)
	}
	return nil
}

// clusters returns the directories of both clusters.
func (o options) clusters() (iofs.FS, error) {
	if o.config == "" {
		return iofs.Sub(embedded, "clusters")
	}
	for _, name := range []string{east, west} {
		if info, err := os.Stat(o.config + "/" + name); err != nil {
			return nil, fmt.Errorf("-config: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("-config: %s/%s is not a directory", o.config, name)
		}
	}
	return os.DirFS(o.config), nil
}
