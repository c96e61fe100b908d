// Package podnet gives a cluster its own pod network without any privilege.
//
// Pods listen on and dial ordinary pod addresses such as 10.1.0.10:15008. Behind
// each of them is a loopback socket, as behind the addresses of an overlay
// network are tunnels, so two networks may use the same addresses and never
// meet:
//
//	network "east" 10.1.0.0/24          network "west" 10.1.0.0/24
//	 10.1.0.10:8080  10.1.0.20           10.1.0.10:8080  10.1.0.11:8080
//	   |               |                   |               |
//	127.0.0.1:40001  127.0.0.1:40002     127.0.0.1:40003  127.0.0.1:40004
//	        \             |                   |             /
//	         `--- Parent: underlay, 172.18.1.100, 172.18.2.100 ---'
//
// A connection starts with a PROXY protocol version 2 header that names both
// pod addresses; the listener answers it with one byte. So an accepted
// connection knows its client's pod address, and a loopback port that now
// belongs to somebody else is noticed instead of reached. After that exchange
// nothing stands between the two sockets: half-close, splice and SyscallConn
// work as on any TCP connection.
//
// Where Config.Dir is set, listeners are kept in small files there, and
// separate processes share the network.
//
// # What it does not do
//
// It does not isolate: every process of the machine can reach the loopback
// sockets. It routes no packets, so a pod is reachable only where it listens
// through this package. It is for examples and tests.
package podnet
