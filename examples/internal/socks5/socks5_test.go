package socks5

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// TestClient holds the server's side against x/net's client.
func TestClient(t *testing.T) {
	tests := []struct {
		name, address string
		refuse        Reply
		wantErr       string
	}{
		{name: "name", address: "reviews.app:80"},
		{name: "IPv4", address: "10.91.0.10:80"},
		{name: "IPv6", address: "[2001:db8::1]:443"},
		{name: "longest name", address: strings.Repeat("a", 255) + ":1"},
		{name: "refused", address: "ledger.app:80", refuse: ConnectionRefused, wantErr: "connection refused"},
		{name: "not allowed", address: "ledger.app:80", refuse: NotAllowed, wantErr: "not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			got := make(chan string, 1)
			go func() {
				defer server.Close()
				req, err := Accept(server)
				if err != nil {
					got <- err.Error()
					return
				}
				got <- req.Address
				if tt.refuse != 0 {
					req.Refuse(tt.refuse)
					return
				}
				req.Grant()
				io.Copy(server, server)
			}()
			err := dialThrough(client, tt.address)
			if address := <-got; address != tt.address {
				t.Errorf("server saw %q, want %q", address, tt.address)
			}
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("client got error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			echo(t, client)
		})
	}
}

func dialThrough(conn net.Conn, address string) error {
	d, err := proxy.SOCKS5("tcp", "unused:1", nil, forward{conn})
	if err != nil {
		return err
	}
	_, err = d.(proxy.ContextDialer).DialContext(context.Background(), "tcp", address)
	return err
}

// forward hands the SOCKS client a connection that exists already.
type forward struct{ conn net.Conn }

func (f forward) Dial(string, string) (net.Conn, error) { return f.conn, nil }

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	go conn.Write([]byte("hello"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Fatalf("echo = %q, %v", got, err)
	}
}

func TestMalformed(t *testing.T) {
	tests := []struct {
		name, in, answer string
		want             error
	}{
		{"nothing", "", "", io.EOF},
		{"SOCKS4", "\x04\x01", "", ErrProtocol},
		{"authentication only", "\x05\x01\x02", "\x05\xff", ErrProtocol},
		{"cut in the methods", "\x05\x02\x00", "", io.ErrUnexpectedEOF},
		{"BIND", "\x05\x01\x00\x05\x02\x00\x01", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", ErrProtocol},
		{"request of another version", "\x05\x01\x00\x04\x01\x00\x01", "\x05\x00", ErrProtocol},
		{"address type", "\x05\x01\x00\x05\x01\x00\x07", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", ErrProtocol},
		{"empty name", "\x05\x01\x00\x05\x01\x00\x03\x00", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", ErrProtocol},
		{"name with a colon", "\x05\x01\x00\x05\x01\x00\x03\x03a:1\x00\x50", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", ErrProtocol},
		{"cut in the address", "\x05\x01\x00\x05\x01\x00\x01\x7f", "\x05\x00", io.ErrUnexpectedEOF},
		{"cut before the port", "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01", "\x05\x00", io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := &script{in: strings.NewReader(tt.in)}
			if req, err := Accept(conn); !errors.Is(err, tt.want) {
				t.Errorf("Accept = %v, %v; want an error that is %v", req, err, tt.want)
			}
			if got := conn.out.String(); got != tt.answer {
				t.Errorf("answered %q, want %q", got, tt.answer)
			}
		})
	}
}

func FuzzAccept(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x0breviews.app\x00\x50rest"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50"))
	f.Fuzz(func(t *testing.T, in []byte) {
		req, err := Accept(&script{in: bytes.NewReader(in)})
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(req.Address); err != nil {
			t.Errorf("address %q: %v", req.Address, err)
		}
	})
}

// script is a connection whose peer says one thing and records the answers.
type script struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)     { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*script) Close() error                     { return nil }
func (*script) LocalAddr() net.Addr              { return nil }
func (*script) RemoteAddr() net.Addr             { return nil }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
