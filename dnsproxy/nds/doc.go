// Package nds is the wire form of name tables: the NameTable of Istio's name
// discovery service, which istiod sends to sidecars that capture DNS.
//
//	istiod                                   agent
//	[]dnsproxy.Entry --Encode--> NameTable --Decode--> []dnsproxy.Entry --> dnsproxy.Build
//
// The bytes are those of the one resource, without a name, of a response of type
// [TypeURL]; every push has the whole table.
//
// It does not do xDS. A NameTable has less than an Entry: no ports, no visibility,
// no namespace of external hosts, and one entry for each host. Use
// [dnsproxy.Entries] to make the table of one client.
package nds
