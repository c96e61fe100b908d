package xds

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/eastwest-mesh/eastwest/internal/boundedfile"
	discoverypb "github.com/eastwest-mesh/eastwest/internal/pb/discovery/v1"
)

// Store keeps the last known state of a Client, so that it can start while no server is there.
type Store interface {
	// Load returns what Save last got: the resources by type URL. A store that was never saved
	// to is empty, without an error.
	Load(context.Context) (map[string][]Resource, error)
	// Save replaces what is stored. Calls do not overlap.
	Save(context.Context, map[string][]Resource) error
}

// FileStore is a Store in one file. Each save writes a new file beside it and renames that, so
// that a crash leaves the old or the new state. A checksum finds any other damage.
type FileStore struct {
	// Path of the file. Its directory must exist. Required.
	Path string
	// MaxBytes bounds the file: a larger state is not saved, and a larger file not read.
	// Default 512 MiB.
	MaxBytes int64
}

// The file is storeMagic, the SHA-256 of the rest, and the rest: for each type the length (a
// uvarint) and the bytes of one DeltaDiscoveryResponse.
const storeMagic = "eastwest xds 1\n"

const storeHeader = len(storeMagic) + sha256.Size

var _ Store = (*FileStore)(nil)

// Load implements Store. A damaged file, or one that is too large, is a *CorruptError.
func (s *FileStore) Load(context.Context) (map[string][]Resource, error) {
	data, err := boundedfile.Read(s.Path, s.maxBytes())
	var size *boundedfile.SizeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.As(err, &size):
		return nil, &CorruptError{Path: s.Path, Err: fmt.Errorf("larger than %d bytes", size.Limit)}
	case err != nil:
		return nil, fmt.Errorf("xds: store: %w", err)
	}
	state, err := decodeState(data)
	if err != nil {
		return nil, &CorruptError{Path: s.Path, Err: err}
	}
	return state, nil
}

// Save implements Store.
func (s *FileStore) Save(_ context.Context, state map[string][]Resource) error {
	data, err := encodeState(state)
	if err != nil {
		return fmt.Errorf("xds: store: %w", err)
	}
	if int64(len(data)) > s.maxBytes() {
		return fmt.Errorf("xds: store %s: a state of %d bytes is larger than %d", s.Path, len(data), s.maxBytes())
	}
	if err := s.write(data); err != nil {
		return fmt.Errorf("xds: store: %w", err)
	}
	return nil
}

// write replaces the file with data, durably.
func (s *FileStore) write(data []byte) error {
	temp := s.Path + ".tmp" // always the same, so that a crash leaves at most one
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, s.Path); err != nil {
		return err
	}
	// The rename itself is durable only when the directory is. Not every system can do this.
	if dir, err := os.Open(filepath.Dir(s.Path)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

func (s *FileStore) maxBytes() int64 {
	if s.MaxBytes == 0 {
		return 512 << 20
	}
	return s.MaxBytes
}

func encodeState(state map[string][]Resource) ([]byte, error) {
	out := make([]byte, storeHeader)
	for _, typeURL := range slices.Sorted(maps.Keys(state)) {
		d := delta{}
		for _, r := range state[typeURL] {
			d.upserts = append(d.upserts, &r)
		}
		resp := d.encode(typeURL, true)
		out = binary.AppendUvarint(out, uint64(proto.Size(resp)))
		var err error
		if out, err = (proto.MarshalOptions{}).MarshalAppend(out, resp); err != nil {
			return nil, fmt.Errorf("type %s: %w", typeURL, err)
		}
	}
	return seal(out), nil
}

// seal fills in the header of a state.
func seal(state []byte) []byte {
	sum := sha256.Sum256(state[storeHeader:])
	copy(state, storeMagic)
	copy(state[len(storeMagic):], sum[:])
	return state
}

func decodeState(data []byte) (map[string][]Resource, error) {
	if len(data) < storeHeader || string(data[:len(storeMagic)]) != storeMagic {
		return nil, errors.New("does not start as a saved state")
	}
	sum, rest := data[len(storeMagic):storeHeader], data[storeHeader:]
	if got := sha256.Sum256(rest); !bytes.Equal(got[:], sum) {
		return nil, errors.New("the checksum is wrong")
	}
	state := make(map[string][]Resource)
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, io.ErrUnexpectedEOF
		}
		resp := new(discoverypb.DeltaDiscoveryResponse)
		if err := proto.Unmarshal(rest[n:n+int(size)], resp); err != nil {
			return nil, err
		}
		rest = rest[n+int(size):]
		for _, r := range resp.GetResources() {
			state[resp.GetTypeUrl()] = append(state[resp.GetTypeUrl()], Resource{
				Name: r.GetName(), Version: r.GetVersion(), Body: r.GetResource().GetValue(), Aliases: r.GetAliases(),
			})
		}
	}
	return state, nil
}
