package identity

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// openSSL is a peer that is not written in Go, with a certificate of its own.
type openSSL struct {
	program string
	files   []string // arguments
}

func newOpenSSL(t *testing.T, ca *CA, id spiffeid.ID) openSSL {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cfg := SPIFFEFiles(t.TempDir())
	writeFiles(t, cfg, ca, id)
	return openSSL{program, []string{"-tls1_3", "-alpn", "h2", "-cert", cfg.Certificates, "-key", cfg.Key, "-CAfile", cfg.Roots}}
}

// connect connects it with our server, and returns what that saw.
func (o openSSL) connect(t *testing.T, server *tls.Config, args ...string) (tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	args = append(append([]string{"s_client", "-connect", l.Addr().String(), "-verify_return_error", "-noservername"}, o.files...), args...)
	cmd := exec.CommandContext(t.Context(), o.program, args...)
	stdin, err := cmd.StdinPipe() // open: at its end the client would leave
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Logf("%s", out.Bytes())
	}()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	conn := tls.Server(nc, server)
	err = conn.Handshake()
	return conn.ConnectionState(), err
}

// accept has our client connect to it, and returns what that saw.
func (o openSSL) accept(t *testing.T, client *tls.Config, args ...string) (tls.ConnectionState, error) {
	t.Helper()
	args = append(append([]string{"s_server", "-accept", "127.0.0.1:0", "-Verify", "2", "-verify_return_error"}, o.files...), args...)
	cmd := exec.CommandContext(t.Context(), o.program, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe() // open: at its end the server would leave
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	defer func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	}()
	lines := bufio.NewReader(stdout)
	address := ""
	for address == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			close(drained)
			t.Fatalf("openssl does not listen: %v", err)
		}
		address, _ = strings.CutPrefix(strings.TrimSpace(line), "ACCEPT ")
		if !strings.Contains(address, ":") {
			address = ""
		}
	}
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, lines)
	}()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	conn := tls.Client(nc, client)
	err = conn.Handshake()
	return conn.ConnectionState(), err
}

// TestCipherSuites has peers that know AES-128 or AES-256 only.
func TestCipherSuites(t *testing.T) {
	ca := newTestCA(t, east)
	peer := newOpenSSL(t, ca, bob)
	src := newTestSource(t, ca, alice)
	client, server := configOf(t, mustClient(t, Config{Source: src, Peers: onlyID(bob)})), configOf(t, mustServer(t, Config{Source: src, Peers: onlyID(bob)}))
	for _, suite := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384} {
		name := tls.CipherSuiteName(suite)
		t.Run(name, func(t *testing.T) {
			for role, connect := range map[string]func() (tls.ConnectionState, error){
				"server": func() (tls.ConnectionState, error) { return peer.accept(t, client, "-ciphersuites", name) },
				"client": func() (tls.ConnectionState, error) { return peer.connect(t, server, "-ciphersuites", name) },
			} {
				state, err := connect()
				if err != nil {
					t.Errorf("%s: %v", role, err)
					continue
				}
				if id, err := PeerID(state); err != nil || id != bob || state.CipherSuite != suite || state.NegotiatedProtocol != "h2" {
					t.Errorf("%s: %v, %v, %s, %q", role, id, err, tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol)
				}
			}
		})
	}
}

// TestPeerWithoutPostQuantum has peers that lack X25519MLKEM768: by default they
// are accepted, by RequirePQ they are not.
func TestPeerWithoutPostQuantum(t *testing.T) {
	ca := newTestCA(t, east)
	peer := newOpenSSL(t, ca, bob)
	src := newTestSource(t, ca, alice)
	for _, strict := range []bool{false, true} {
		cfg := Config{Source: src, Peers: onlyID(bob), RequirePQ: strict}
		for role, connect := range map[string]func() (tls.ConnectionState, error){
			"server": func() (tls.ConnectionState, error) {
				return peer.accept(t, configOf(t, mustClient(t, cfg)), "-groups", "X25519:P-256")
			},
			"client": func() (tls.ConnectionState, error) {
				return peer.connect(t, configOf(t, mustServer(t, cfg)), "-groups", "P-256")
			},
		} {
			t.Run(fmt.Sprintf("%s, strict %t", role, strict), func(t *testing.T) {
				state, err := connect()
				if (err != nil) != strict {
					t.Errorf("handshake: %v, key exchange %v", err, state.CurveID)
				}
			})
		}
	}
}
