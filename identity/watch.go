package identity

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/boundedfile"
)

// watchedFiles are files that make sense together only: they are read all
// whenever one of them has changed.
type watchedFiles struct {
	what     string   // for the log
	names    []string // each must be there
	optional []string // each may be missing: its content is nil then
	limit    int      // of the size of each
	interval time.Duration
	logger   *slog.Logger

	// load takes the content of names, and then of optional, into service. If
	// it fails, what was loaded before stays.
	load func(content [][]byte) error

	changed func() // called when something was loaded; may be nil

	mu  sync.Mutex // serializes Reload
	sum [sha256.Size]byte
}

const defaultInterval = 10 * time.Second

// Run reloads what changed, until the context ends, whose cause it returns. It
// compares the contents of the files, so that it sees replaced files, renamed
// directories and Kubernetes' symlinks alike.
func (w *watchedFiles) Run(ctx context.Context) error { return w.run(ctx, w.Reload) }

// run is Run with what is to be done at each interval.
func (w *watchedFiles) run(ctx context.Context, reload func() (changed bool, err error)) error {
	interval := w.interval
	if interval <= 0 {
		interval = defaultInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		changed, err := reload()
		switch {
		case err != nil:
			w.logger.Warn(w.what+" are not usable, the previous ones stay in service", "error", err)
		case changed:
			w.logger.Info(w.what + " reloaded")
		}
	}
}

// Reload reads the files and reports whether they changed.
func (w *watchedFiles) Reload() (changed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	content, sum, err := w.read()
	if err != nil {
		return false, fmt.Errorf("identity: %w", err)
	}
	if sum == w.sum {
		return false, nil
	}
	if err := w.load(content); err != nil {
		return false, err
	}
	w.sum = sum
	if w.changed != nil {
		w.changed()
	}
	return true, nil
}

// read returns the content of all files, and a checksum.
func (w *watchedFiles) read() (content [][]byte, sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	for i, name := range slices.Concat(w.names, w.optional) {
		b, err := boundedfile.Read(name, int64(w.limit))
		if i >= len(w.names) && errors.Is(err, fs.ErrNotExist) {
			b, err = nil, nil
		}
		if err != nil {
			return nil, sum, err
		}
		content = append(content, b)
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		hash.Write(b)
	}
	return content, [sha256.Size]byte(hash.Sum(nil)), nil
}
