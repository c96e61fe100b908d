package strictpem

import (
	"bytes"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/testca"
)

var (
	block = pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: []byte("some bytes of a block, more than a line of them in base64")})
	half  = block[:len(block)/2]
)

func TestBlocks(t *testing.T) {
	for name, tc := range map[string]struct {
		data string
		want int // -1: an error
	}{
		"nothing":                {"", 0},
		"text":                   {"some text\n", 0},
		"two":                    {string(block) + string(block), 2},
		"text around":            {"Subject: - -\n" + string(block) + "# between\n" + string(block) + "# end", 2},
		"Windows' line ends":     {strings.ReplaceAll(string(block), "\n", "\r\n"), 1},
		"cut off":                {string(half), -1},
		"cut off before another": {string(half) + "\n" + string(block), -1},
		"cut off after another":  {string(block) + string(half), -1},
		"the first dashes":       {string(block) + "-----B", -1},
		"other end":              {strings.Replace(string(block), "END X", "END Y", 1) + string(block), -1},
		"no base64":              {"-----BEGIN X-----\n!\n-----END X-----\n" + string(block), -1},
	} {
		blocks, err := Blocks([]byte(tc.data))
		if (err != nil) != (tc.want < 0) || err == nil && len(blocks) != tc.want {
			t.Errorf("%s: %d blocks, %v; want %d", name, len(blocks), err, tc.want)
		}
	}
}

func TestCertificates(t *testing.T) {
	root := testca.New("east.example").Root()
	one := pem.EncodeToMemory(&pem.Block{Type: certificate, Bytes: root.Raw})
	if certs, err := Certificates(slices.Concat(one, one)); err != nil || len(certs) != 2 || !certs[1].Equal(root) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"another block":  slices.Concat(one, block),
		"bad bytes":      pem.EncodeToMemory(&pem.Block{Type: certificate, Bytes: []byte{1}}),
		"one is cut off": slices.Concat(one[:len(one)-9], one),
	} {
		if certs, err := Certificates(data); err == nil {
			t.Errorf("%s: %d certificates and no error", name, len(certs))
		}
	}
}

// FuzzBlocks: whatever is read can be written and read again, and no marker of a
// block is left unread.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{})
	f.Add(block)
	f.Add(slices.Concat(block, half, block))
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := Blocks(data)
		if err != nil {
			return
		}
		if n := bytes.Count(data, []byte("-----BEGIN ")); n != len(blocks) {
			t.Fatalf("%d blocks of %d", len(blocks), n)
		}
		var out []byte
		for _, b := range blocks {
			out = append(out, pem.EncodeToMemory(b)...)
		}
		again, err := Blocks(out)
		if err != nil || len(again) != len(blocks) {
			t.Fatalf("%d blocks are %d, %v, once written", len(blocks), len(again), err)
		}
	})
}
