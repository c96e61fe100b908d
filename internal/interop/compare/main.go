// Command compare measures eastwest beside pkg/hbone of Istio, by turns in one
// run, and prints a table with ratios. See package interop.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/interop"
)

func main() {
	var o interop.Options
	flag.IntVar(&o.Repetitions, "reps", 5, "repetitions of each measure and peer")
	flag.DurationVar(&o.Time, "time", time.Second, "about how long a repetition is")
	flag.StringVar(&o.Match, "match", "", "part of the names of what to measure, such as Bulk/hops=2")
	flag.BoolVar(&o.Verify, "verify", false, "compare checksums of what is moved; not for measuring")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := interop.Compare(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
