package hbone

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// tunnelKey names the tunnel to hop last of the path: two streams may share a
// tunnel only if everything that led to it is the same. That is the whole
// prefix of the path: the dialled address, who we are and whom we accept on
// every hop up to this one, and what was asked of the hops before it.
//
// Every part is written with its length, so that no two different prefixes
// can spell the same key.
func tunnelKey(hops []Hop, last int) string {
	var b strings.Builder
	part(&b, hops[0].Address)
	for i, hop := range hops[:last+1] {
		part(&b, hop.TLS.Key())
		if i < last {
			part(&b, hop.Authority)
			header(&b, hop.TunnelHeader)
		}
	}
	return b.String()
}

func part(b *strings.Builder, s string) {
	b.WriteString(strconv.Itoa(len(s)))
	b.WriteByte(':')
	b.WriteString(s)
}

// header writes h so that neither the order nor the case of its names
// matters; the order of a name's values does.
func header(b *strings.Builder, h http.Header) {
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
	part(b, strconv.Itoa(len(names)))
	for _, name := range names {
		part(b, strings.ToLower(name))
		part(b, strconv.Itoa(len(h[name])))
		for _, value := range h[name] {
			part(b, value)
		}
	}
}
