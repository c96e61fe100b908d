package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/eastwest-mesh/eastwest/examples/internal/podnet"
)

// An answer is what every application says: which pod it is, of which cluster.
type answer struct {
	Cluster string `json:"cluster"`
	Pod     string `json:"pod"`
}

// apps are the HTTP applications in a cluster's pods: real servers, which know
// nothing of the mesh.
type apps struct {
	cluster string
	network *podnet.Network
	wrap    appWrapper

	mu      sync.Mutex
	servers map[string]*http.Server // by namespace/name of the pod
}

// An appWrapper comes between an application and its clients.
type appWrapper func(cluster, pod string, app http.Handler) http.Handler

func newApps(cluster string, network *podnet.Network, wrap appWrapper) *apps {
	if wrap == nil {
		wrap = func(_, _ string, app http.Handler) http.Handler { return app }
	}
	return &apps{cluster: cluster, network: network, wrap: wrap, servers: map[string]*http.Server{}}
}

// run makes the applications those of the given pods: a pod that declares a
// port gets a server on it, and servers of pods that are gone are closed.
func (a *apps) run(ctx context.Context, pods []*corev1.Pod) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := map[string]bool{}
	for _, p := range pods {
		key := p.Namespace + "/" + p.Name
		wanted[key] = true
		if a.servers[key] != nil || len(containerPorts(p)) == 0 {
			continue
		}
		server, err := a.start(ctx, p)
		if err != nil {
			return err
		}
		a.servers[key] = server
	}
	for key, server := range a.servers {
		if !wanted[key] {
			server.Close()
			delete(a.servers, key)
		}
	}
	return nil
}

func (a *apps) start(ctx context.Context, p *corev1.Pod) (*http.Server, error) {
	ip, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	server := &http.Server{Handler: a.wrap(a.cluster, p.Name, a.handler(p))}
	for _, port := range containerPorts(p) {
		l, err := a.network.Pod(ip).Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			server.Close()
			return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				l.Close()
			}
		}()
	}
	return server, nil
}

func (a *apps) handler(p *corev1.Pod) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The request is read whole, so that its payload really crosses.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer{Cluster: a.cluster, Pod: p.Name}); err != nil {
			panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
		}
	})
}

func (a *apps) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, server := range a.servers {
		server.Close()
	}
	clear(a.servers)
}

func containerPorts(p *corev1.Pod) []int32 {
	var ports []int32
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Protocol == corev1.ProtocolTCP || port.Protocol == "" {
				ports = append(ports, port.ContainerPort)
			}
		}
	}
	return ports
}
