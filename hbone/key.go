package hbone

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// appendTunnelKey names the tunnel to hop last of the path: two streams may share a
// tunnel only if everything that led to it is the same. That is the whole
// prefix of the path: the dialled address, who we are and whom we accept on
// every hop up to this one, and what was asked of the hops before it.
//
// Every part is written with its length, so that no two different prefixes
// can spell the same key.
func appendTunnelKey(b []byte, hops []Hop, last int) []byte {
	b = appendPart(b, hops[0].Address)
	for i, hop := range hops[:last+1] {
		if isPlaintext(hop.TLS) {
			b = append(b, "plain "...) // whatever keys others have
		}
		b = appendPart(b, hop.TLS.Key())
		if i < last {
			b = appendPart(b, hop.Authority)
			b = appendHeader(b, hop.TunnelHeader)
		}
	}
	return b
}

func appendPart(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

// appendHeader writes h so that neither the order nor the case of its names
// matters; the order of a name's values does.
func appendHeader(b []byte, h http.Header) []byte {
	b = strconv.AppendInt(b, int64(len(h)), 10)
	b = append(b, ';')
	if len(h) == 0 {
		return b
	}
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := strings.Compare(strings.ToLower(a), strings.ToLower(b)); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		b = appendPart(b, strings.ToLower(name))
		b = strconv.AppendInt(b, int64(len(h[name])), 10)
		b = append(b, ';')
		for _, value := range h[name] {
			b = appendPart(b, value)
		}
	}
	return b
}
