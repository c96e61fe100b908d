package podnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// dirRegistry keeps each endpoint in a file named after it, whose one line is
// the address of the loopback socket. A file appears whole or not at all (it
// is linked into place), and the file of a process that died is replaced.
type dirRegistry struct {
	dir string
}

const maxEntryBytes = 64

func newDirRegistry(dir string) (*dirRegistry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &dirRegistry{dir: dir}, nil
}

func (r *dirRegistry) path(e endpoint) string {
	ip := strings.ReplaceAll(e.addr.Addr().String(), ":", "_")
	return filepath.Join(r.dir, fmt.Sprintf("%s-%s-%d", e.protocol, ip, e.addr.Port()))
}

func (r *dirRegistry) add(ctx context.Context, e endpoint, socket netip.AddrPort) (func() error, error) {
	path := r.path(e)
	temp, err := r.writeTemp(socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(temp) }()
	err = os.Link(temp, path)
	if errors.Is(err, fs.ErrExist) {
		if r.alive(ctx, e) {
			return nil, syscall.EADDRINUSE
		}
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, err
	}
	return func() error { return r.remove(e, socket) }, nil
}

func (r *dirRegistry) writeTemp(socket netip.AddrPort) (string, error) {
	file, err := os.CreateTemp(r.dir, ".new-*")
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(socket.String() + "\n")
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}

// remove takes the endpoint away, unless another process has it by now.
func (r *dirRegistry) remove(e endpoint, socket netip.AddrPort) error {
	now, err := r.find(e)
	if errors.Is(err, syscall.ECONNREFUSED) || err == nil && now != socket {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Remove(r.path(e)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *dirRegistry) find(e endpoint) (netip.AddrPort, error) {
	content, err := os.ReadFile(r.path(e))
	if errors.Is(err, fs.ErrNotExist) {
		return netip.AddrPort{}, syscall.ECONNREFUSED
	}
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(content) > maxEntryBytes {
		return netip.AddrPort{}, fmt.Errorf("%s: not the address of a socket", r.path(e))
	}
	socket, err := netip.ParseAddrPort(strings.TrimSpace(string(content)))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s: %w", r.path(e), err)
	}
	return socket, nil
}

// alive reports whether the endpoint's socket is still there.
func (r *dirRegistry) alive(ctx context.Context, e endpoint) bool {
	socket, err := r.find(e)
	if err != nil {
		return false
	}
	if e.protocol == "udp" {
		// A UDP port that can be bound belongs to nobody.
		c, err := new(net.ListenConfig).ListenPacket(ctx, "udp", socket.String())
		if err != nil {
			return true
		}
		c.Close()
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := connect(ctx, socket, func(self netip.AddrPort) header { return header{probe: true, from: self, to: e.addr} })
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
