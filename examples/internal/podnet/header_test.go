package podnet

import (
	"bytes"
	"net/netip"
	"testing"
)

func FuzzParseHeader(f *testing.F) {
	v4, v6 := netip.MustParseAddrPort("10.1.0.10:8080"), netip.MustParseAddrPort("[fd00::1]:53")
	for _, h := range []header{{from: v4, to: v4}, {probe: true, from: v6, to: v4}, {datagram: true, from: v6, to: v6}} {
		f.Add(append(h.append(nil), "payload"...))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := parseHeader(b)
		if err != nil {
			return
		}
		again, rest2, err := parseHeader(append(h.append(nil), rest...))
		if err != nil || again != h || !bytes.Equal(rest, rest2) {
			t.Errorf("%+v became %+v, %v", h, again, err)
		}
		if read, err := readHeader(bytes.NewReader(b)); err == nil && read != h {
			t.Errorf("read %+v, parsed %+v", read, h)
		}
	})
}
