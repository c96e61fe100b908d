package hbone

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxAuthorityHost is the length of the longest name in DNS (RFC 1035 §2.3.4).
const maxAuthorityHost = 255

// checkAuthority asks for host:port, which RFC 9113 §8.5 has for a CONNECT:
// an IPv4 address, an IPv6 address in brackets, or a name; and a port number.
// It is strict, because two parsers that differ about what an authority means
// would let a client pass a check for one destination and reach another.
func checkAuthority(authority string) error {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		return errAuthority
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errAuthority
	}
	if strings.HasPrefix(authority, "[") {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || ip.Zone() != "" {
			return errAuthority
		}
		return nil
	}
	if host == "" || len(host) > maxAuthorityHost || strings.ContainsFunc(host, notInName) {
		return errAuthority
	}
	return nil
}

// notInName is what RFC 3986 §3.2.2 does not have in a name, and percent-encoding.
func notInName(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("-._~!$&'()*+,;=", c)
}
