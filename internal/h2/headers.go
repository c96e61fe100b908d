package h2

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// A headerList is a decoded header block: of a request, a response, or trailers
// (RFC 9113 §8.3).
type headerList struct {
	pseudo  [pseudoHeaders]string
	present [pseudoHeaders]bool
	fields  http.Header
	regular bool // a regular field was seen

	size, limit int
	tooBig      bool
	malformed   string // the first fault, in words
}

// A pseudoHeader is one that RFC 9113 §8.3 or RFC 8441 §4 defines.
type pseudoHeader int

const (
	method pseudoHeader = iota
	authority
	scheme
	path
	status
	protocol
	pseudoHeaders
)

var pseudoNames = [pseudoHeaders]string{":method", ":authority", ":scheme", ":path", ":status", ":protocol"}

// add takes one field. Faults are kept: the block must be decoded to its end, or
// the HPACK state would be lost.
func (l *headerList) add(f hpack.HeaderField) {
	l.size += int(f.Size())
	if l.size > l.limit {
		l.tooBig = true
	}
	if l.tooBig || l.malformed != "" {
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		l.addPseudo(f)
		return
	}
	l.regular = true
	if l.malformed = checkField(f.Name, f.Value); l.malformed != "" {
		return
	}
	if l.fields == nil {
		l.fields = make(http.Header)
	}
	l.fields.Add(f.Name, f.Value)
}

func (l *headerList) addPseudo(f hpack.HeaderField) {
	h := pseudoHeader(slices.Index(pseudoNames[:], f.Name))
	switch {
	case l.regular: // RFC 9113 §8.3
		l.malformed = "pseudo-header " + f.Name + " after a regular field"
	case !validValue(f.Value):
		l.malformed = "invalid value of " + f.Name
	case h < 0:
		l.malformed = fmt.Sprintf("unknown pseudo-header %q", f.Name)
	case l.present[h]:
		l.malformed = "repeated pseudo-header " + f.Name
	default:
		l.pseudo[h], l.present[h] = f.Value, true
	}
}

// has reports whether any of the pseudo-headers is there.
func (l *headerList) has(any ...pseudoHeader) bool {
	return slices.ContainsFunc(any, func(h pseudoHeader) bool { return l.present[h] })
}

// checkRequest returns what is wrong with a request, "" if nothing is. For a CONNECT, :method and
// :authority are all there is (RFC 9113 §8.5).
func (l *headerList) checkRequest() string {
	switch {
	case l.malformed != "":
		return l.malformed
	case l.has(status):
		return "request with :status"
	case l.has(protocol): // RFC 8441 §3: not without SETTINGS_ENABLE_CONNECT_PROTOCOL
		return "extended CONNECT was not offered"
	case l.pseudo[method] == "":
		return "request without :method"
	case l.pseudo[method] == http.MethodConnect:
		if l.has(scheme, path) {
			return "CONNECT with :scheme or :path"
		}
		if l.pseudo[authority] == "" {
			return "CONNECT without :authority"
		}
	case l.pseudo[scheme] == "" || l.pseudo[path] == "":
		return "request without :scheme or :path"
	}
	return ""
}

// responseStatus returns a response's status (RFC 9113 §8.3.2), or what is wrong.
func (l *headerList) responseStatus() (code int, fault string) {
	switch {
	case l.malformed != "":
		return 0, l.malformed
	case l.has(method, authority, scheme, path, protocol):
		return 0, "response with request pseudo-headers"
	}
	s := l.pseudo[status]
	code, err := strconv.Atoi(s)
	// 101 has no meaning in HTTP/2 (RFC 9113 §8.6).
	if err != nil || len(s) != 3 || code < 100 || code == 101 {
		return 0, fmt.Sprintf("invalid :status %q", s)
	}
	return code, ""
}

// checkField returns what is wrong with a regular field (RFC 9113 §8.2), "" if nothing is.
func checkField(name, value string) string {
	switch {
	case !validName(name):
		return fmt.Sprintf("invalid header name %q", name)
	case !validValue(value):
		return fmt.Sprintf("invalid value of header %q", name)
	}
	switch name { // RFC 9113 §8.2.2
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return fmt.Sprintf("connection-specific header %q", name)
	case "te":
		if value != "trailers" {
			return fmt.Sprintf("header te: %q", value)
		}
	}
	return ""
}

// validName reports whether s is a lower-case token (RFC 9113 §8.2.1, RFC 9110 §5.6.2).
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		lower := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !lower && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s may be a field value: no control characters but
// tab, no white space around it (RFC 9113 §8.2.1).
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || !isSpace(s[0]) && !isSpace(s[len(s)-1])
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// appendFields turns a header into fields to be sent, in lower case.
func appendFields(fields []hpack.HeaderField, h http.Header) ([]hpack.HeaderField, error) {
	for name, values := range h {
		name = strings.ToLower(name)
		for _, v := range values {
			if fault := checkField(name, v); fault != "" {
				return nil, &HeaderError{fault}
			}
			fields = append(fields, hpack.HeaderField{Name: name, Value: v, Sensitive: perStream(name)})
		}
	}
	return fields, nil
}

// perStream reports whether a header mostly differs from one stream to the next: then it is never indexed
// (RFC 7541 §6.2.3), lest it pushes what does not differ out of the table.
func perStream(name string) bool {
	switch name {
	case "forwarded", "traceparent", "tracestate", "x-request-id":
		return true
	}
	return false
}

// fewFields is room for the fields of most requests and responses.
type fewFields [8]hpack.HeaderField

// requestFields appends those of a CONNECT (RFC 9113 §8.5).
func requestFields(fields []hpack.HeaderField, to string, h http.Header) ([]hpack.HeaderField, error) {
	if to == "" || !validValue(to) {
		return nil, &HeaderError{fmt.Sprintf("invalid authority %q", to)}
	}
	return appendFields(append(fields,
		hpack.HeaderField{Name: pseudoNames[method], Value: http.MethodConnect},
		hpack.HeaderField{Name: pseudoNames[authority], Value: to},
	), h)
}

// responseFields appends those of an answer.
func responseFields(fields []hpack.HeaderField, code int, h http.Header) ([]hpack.HeaderField, error) {
	value := "200"
	if code != http.StatusOK {
		value = strconv.Itoa(code)
	}
	if code < 200 || code > 999 {
		return nil, &HeaderError{fmt.Sprintf("invalid status %d", code)}
	}
	return appendFields(append(fields, hpack.HeaderField{Name: pseudoNames[status], Value: value}), h)
}
