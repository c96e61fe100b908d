package kubefile

import (
	"context"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce lets a copy of many files, or an editor, finish.
	debounce = 100 * time.Millisecond
	// reread is how often a directory is read although nothing was heard:
	// network file systems tell nothing.
	reread = 30 * time.Second
)

// Watch is Loader.Watch with a zero Loader.
func Watch(ctx context.Context, dir string) iter.Seq2[*Snapshot, error] {
	return Loader{}.Watch(ctx, dir)
}

// Watch yields the directory as it is, and again whenever its content changes,
// until ctx ends. A state that is wrong is yielded as an error without a
// Snapshot, once: whoever ranges keeps the Snapshot that it has.
func (l Loader) Watch(ctx context.Context, dir string) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		w := &watch{loader: l, dir: dir, yield: yield}
		w.run(ctx)
	}
}

// watch is one range over Watch.
type watch struct {
	loader Loader
	dir    string
	yield  func(*Snapshot, error) bool
	last   *Snapshot
	failed string // the last error that was yielded
}

func (w *watch) run(ctx context.Context) {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		if !w.yield(nil, err) {
			return
		}
		events = &fsnotify.Watcher{} // only the clock wakes us
	} else {
		defer func() { _ = events.Close() }()
	}
	clock := time.NewTicker(reread)
	defer clock.Stop()
	settled := time.NewTimer(0) // read now
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events.Events:
			if w.concerns(e) {
				settled.Reset(debounce)
			}
		case _, ok := <-events.Errors: // events were lost: read instead
			if ok {
				settled.Reset(debounce)
			}
		case <-clock.C:
			settled.Reset(0)
		case <-settled.C:
			// Listen before reading, or a change in between is lost.
			if err == nil {
				w.listen(events)
			}
			if !w.read() {
				return
			}
		}
	}
}

// concerns leaves out what happens beside the directory: its parent is
// watched, for the directory may be a symbolic link that is replaced.
func (w *watch) concerns(e fsnotify.Event) bool {
	dir := filepath.Clean(w.dir)
	return e.Name == dir || strings.HasPrefix(e.Name, dir+string(filepath.Separator)) || dir == "."
}

// listen watches the directory, its subdirectories and its parent. What cannot
// be watched is left to the clock.
func (w *watch) listen(events *fsnotify.Watcher) {
	dir := filepath.Clean(w.dir)
	_ = events.Add(filepath.Dir(dir))
	_ = events.Add(dir)
	_ = filepath.WalkDir(dir+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if info, statErr := os.Stat(path); err == nil && statErr == nil && info.IsDir() {
			_ = events.Add(filepath.Clean(path))
		}
		return nil
	})
}

func (w *watch) read() bool {
	snapshot, err := w.loader.Load(w.dir)
	if err != nil {
		if text := err.Error(); text != w.failed {
			w.failed = text
			return w.yield(nil, err)
		}
		return true
	}
	if w.last != nil && w.failed == "" && snapshot.digest == w.last.digest {
		return true
	}
	w.last, w.failed = snapshot, ""
	return w.yield(snapshot, nil)
}
