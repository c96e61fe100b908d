// Package dnsproxy answers DNS questions for the names of a mesh, forwards the
// others, and gives virtual addresses to hosts that have none.
//
//	client             Server          Handler          Resolver          Names
//	  |  UDP, TCP  +------------+   +------------+   +------------+   +-----------+
//	  +----------->| sockets,   |-->| view of    |-->| expansion, |-->| NameTable |<-- Build, With
//	               | limits     |   | the client |   | answers    |   | (current) |<-- nds.Decode
//	               +------------+   +-----+------+   +------------+   +-----------+
//	                                      | what the table does not know
//	                                +-----v------+
//	                                | Forwarder  |--> upstream servers (UDP, TCP, TLS)
//	                                | cache      |
//	                                +------------+
//
// A [NameTable] is an immutable set of entries. It is built from what a control
// plane sent, and changed at a cost that follows the change ([NameTable.With],
// [Names.Update]). One table serves clients of all namespaces: what a short name
// means, which search domains there are, and which of several ServiceEntries for
// one host counts is said by the [View] of the client. There are two dialects,
// ztunnel's and that of Istio's agent; they differ in little.
//
// A [Resolver] answers A, AAAA, PTR and SRV questions; HTTPS and SVCB have no data
// for mesh hosts, so that their hints do not lead around the mesh. Names that are
// known but have nothing to answer get a SOA, so that resolvers remember it.
// Everything else is forwarded: other types, and unknown names.
//
// A [Forwarder] asks several upstream servers with failover, over UDP with a
// retry over TCP, or over TLS, and remembers the answers (RFC 2308), also beyond
// their end when no server answers (RFC 8767). It notices when an upstream leads back to it.
//
// [VIPs] gives every host an IPv4 and an IPv6 address that depend on nothing but
// the host's name where nobody else has them, and that never change.
//
// [Entries] makes the name table of one client from the services that a control
// plane knows, in the way of istiod; package nds has its wire form.
//
// # What it does not do
//
// It is no authoritative server for zone files, no recursive resolver, and does
// not validate DNSSEC: it passes DO, CD and AD on, and answers mesh names unsigned.
// It does not redirect traffic to itself: that is the work of whoever sets up
// the client's network. Zone transfers, updates and TSIG are refused.
package dnsproxy
