package dnsproxy_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/eastwest-mesh/eastwest/dnsproxy"
)

// A DNS server for the pods of namespace app, on loopback.
func Example() {
	table, err := dnsproxy.Build([]dnsproxy.Entry{
		{
			Host: "reviews.app.svc.cluster.local", Namespace: "app", Registry: dnsproxy.Kubernetes,
			Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		},
		{Host: "*.example.com", Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.1")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	names := new(dnsproxy.Names)
	names.Store(table)
	server := &dnsproxy.Server{Handler: &dnsproxy.Handler{
		Resolver: &dnsproxy.Resolver{Names: names},
		View:     dnsproxy.View{Namespace: "app"},
	}}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go server.ServePacket(pc)
	defer server.Close()

	for _, name := range []string{"reviews.", "reviews.app.", "www.example.com.app.svc.cluster.local.", "elsewhere.test."} {
		resp, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), pc.LocalAddr().String())
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(name, dns.RcodeToString[resp.Rcode])
		for _, rr := range resp.Answer {
			fmt.Println("  ", rr.(*dns.A).A)
		}
	}
	// Output:
	// reviews. NOERROR
	//    10.96.0.10
	// reviews.app. NOERROR
	//    10.96.0.10
	// www.example.com.app.svc.cluster.local. NOERROR
	//    240.240.0.1
	// elsewhere.test. REFUSED
}

// One table for clients of several namespaces.
func ExampleNameTable_Lookup() {
	table, err := dnsproxy.Build([]dnsproxy.Entry{
		{Host: "db.east.svc.cluster.local", Namespace: "east", Registry: dnsproxy.Kubernetes},
		{Host: "db.west.svc.cluster.local", Namespace: "west", Registry: dnsproxy.Kubernetes},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, namespace := range []string{"east", "west", "north"} {
		e, ok := table.Lookup(dnsproxy.View{Namespace: namespace}, "db")
		if !ok {
			fmt.Println(namespace, "has no db")
			continue
		}
		fmt.Println(namespace, e.Host)
	}
	// Output:
	// east db.east.svc.cluster.local
	// west db.west.svc.cluster.local
	// north has no db
}

// Entries come and go; whoever answers has a complete table at any time.
func ExampleNames_Update() {
	names := new(dnsproxy.Names)
	entry := dnsproxy.Entry{Host: "api.example.com", Namespace: "app", Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.1")}}
	if err := names.Update([]dnsproxy.Entry{entry}, nil); err != nil {
		fmt.Println(err)
		return
	}
	before := names.Load()
	if err := names.Update(nil, []dnsproxy.Key{entry.Key()}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(before.Len(), names.Load().Len())
	// Output: 1 0
}

// Ask the servers of the node's resolv.conf.
func ExampleForwarder() {
	conf, err := dnsproxy.LoadResolvConf("/etc/resolv.conf")
	if err != nil {
		fmt.Println(err)
		return
	}
	f := &dnsproxy.Forwarder{
		Upstreams:      conf.Upstreams(),
		AttemptTimeout: conf.Timeout,
		Attempts:       conf.Attempts,
		Rotate:         conf.Rotate,
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := f.Exchange(ctx, new(dns.Msg).SetQuestion("example.com.", dns.TypeA))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resp)
}

// A host has the same address in every cluster, and keeps it.
func ExampleVIPs() {
	for _, cluster := range []string{"east", "west"} {
		vips, err := dnsproxy.OpenVIPs(dnsproxy.VIPConfig{})
		if err != nil {
			fmt.Println(err)
			return
		}
		got, err := vips.Allocate("api.example.com")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(cluster, got[0].IPv4, got[0].IPv6)
	}
	// Output:
	// east 240.240.39.233 2001:2::50c4:3d38:8506:4d9c
	// west 240.240.39.233 2001:2::50c4:3d38:8506:4d9c
}

// What istiod would send to a sidecar in cluster east.
func ExampleEntries() {
	entries := dnsproxy.Entries(dnsproxy.Audience{Network: "net-east", Cluster: "east"}, []dnsproxy.Service{{
		Host: "db.app.svc.cluster.local", ShortName: "db", Namespace: "app", Registry: dnsproxy.Kubernetes,
		Headless: true,
		Members: []dnsproxy.Member{
			{Hostname: "db-0", Subdomain: "db", Network: "net-east", Cluster: "east", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")}},
			{Hostname: "db-0", Subdomain: "db", Network: "net-west", Cluster: "west", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.10")}},
		},
	}})
	for _, e := range entries {
		fmt.Println(e.Host, e.Addresses)
	}
	// Output:
	// db-0.db.app.svc.cluster.local [10.1.0.10]
	// db.app.svc.cluster.local [10.1.0.10]
}
