package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/eastwest-mesh/eastwest/examples/internal/expose"
	"github.com/eastwest-mesh/eastwest/examples/internal/ztunnel"
)

// serve keeps the clusters up until ctx ends, and lets the programs of the
// machine in as if they were the caller in east.
func (w *world) serve(ctx context.Context, out io.Writer) error {
	caller, err := w.client(callerPod)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	open := func(port int) (net.Addr, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		serving.Go(func() {
			// It ends with ctx, or with the listener, which nobody else has.
			_ = expose.TCP(ctx, l, caller.pod.DialContext, fmt.Sprintf(":%d", port))
		})
		return l.Addr(), nil
	}
	socks, err := open(ztunnel.SOCKSPort)
	if err != nil {
		return err
	}
	dns, err := open(ztunnel.DNSPort)
	if err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(dns.String())
	fmt.Fprintf(out, `
The clusters stay up. You are the pod %s/%s in east:

  curl -x socks5h://%s http://%s.%s/
  dig @%s -p %s +tcp %s.%s

Their objects are in %s and may be edited. Interrupt to end.
`, namespace, callerPod, socks, serviceName, namespace, host, port, serviceName, namespace, w.temp)
	<-ctx.Done()
	return nil
}
