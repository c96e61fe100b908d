package kubefile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Loader reads directories. The zero value works. It must not be changed while
// in use.
type Loader struct {
	// MaxFileBytes bounds one file. Default 16 MiB.
	MaxFileBytes int64
	// MaxFiles bounds a directory. Default 10,000.
	MaxFiles int
	// MaxObjects bounds a directory. Default 1,000,000.
	MaxObjects int
}

const (
	maxErrors = 100 // that are reported at once
	maxDepth  = 8   // of subdirectories: a symbolic link may lead back up
)

// Load reads a directory with a zero Loader.
func Load(dir string) (*Snapshot, error) { return Loader{}.Load(dir) }

// Load reads a directory. If anything in it is wrong it returns no Snapshot,
// and an error that joins an *Error for everything that is wrong, in the order
// of files and lines.
func (l Loader) Load(dir string) (*Snapshot, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, &Error{Position: Position{File: dir}, Err: inner(err)}
	} else if !info.IsDir() {
		return nil, &Error{Position: Position{File: dir}, Err: errors.New("is not a directory")}
	}
	return l.LoadFS(os.DirFS(dir), dir)
}

// LoadFS reads a file system. The name comes before file names in errors.
func (l Loader) LoadFS(fsys fs.FS, name string) (*Snapshot, error) {
	l.MaxFileBytes = orDefault(l.MaxFileBytes, 16<<20)
	l.MaxFiles = orDefault(l.MaxFiles, 10_000)
	l.MaxObjects = orDefault(l.MaxObjects, 1_000_000)
	r := &reader{
		loader: l, fsys: fsys, digest: sha256.New(),
		snapshot: &Snapshot{Name: name, sources: make(map[metav1.Object]source)},
		seen:     make(map[string]Position),
	}
	r.directory(".", 0)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	r.snapshot.sort()
	r.digest.Sum(r.snapshot.digest[:0])
	return r.snapshot, nil
}

func orDefault[T int | int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// reader reads one directory.
type reader struct {
	loader   Loader
	fsys     fs.FS
	snapshot *Snapshot
	digest   hash.Hash
	seen     map[string]Position // objects, by kind, namespace and name
	files    int
	errs     []error
	full     bool // no more errors are kept
}

// fail keeps an error; its file becomes the one that a user can open.
func (r *reader) fail(e *Error) {
	switch {
	case r.full:
	case len(r.errs) == maxErrors:
		r.full = true
		r.errs = append(r.errs, fmt.Errorf("%s: more errors are not shown", r.snapshot.Name))
	default:
		r.errs = append(r.errs, e)
	}
}

func (r *reader) failFile(name string, err error) {
	r.fail(&Error{Position: Position{File: r.display(name)}, Err: err})
}

func (r *reader) display(name string) string {
	return filepath.Join(r.snapshot.Name, filepath.FromSlash(name))
}

func (r *reader) directory(dir string, depth int) {
	entries, err := fs.ReadDir(r.fsys, dir)
	if err != nil {
		r.failFile(dir, inner(err))
		return
	}
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || r.full {
			continue
		}
		info, err := fs.Stat(r.fsys, name) // follows links
		switch {
		case err != nil:
			r.failFile(name, inner(err))
		case info.IsDir() && depth == maxDepth:
			r.failFile(name, fmt.Errorf("%w: directories are more than %d deep (a symbolic link to a parent?)", ErrTooLarge, maxDepth))
		case info.IsDir():
			r.directory(name, depth+1)
		case slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)):
			r.open(name)
		}
	}
}

func (r *reader) open(name string) {
	if r.files++; r.files > r.loader.MaxFiles {
		if r.files == r.loader.MaxFiles+1 {
			r.failFile(".", fmt.Errorf("%w: more than %d files", ErrTooLarge, r.loader.MaxFiles))
		}
		return
	}
	content, err := r.read(name)
	if err != nil {
		r.failFile(name, inner(err))
		return
	}
	_, _ = fmt.Fprintf(r.digest, "%q %d\n", name, len(content))
	r.digest.Write(content)
	r.file(name, content)
}

func (r *reader) read(name string) ([]byte, error) {
	f, err := r.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, r.loader.MaxFileBytes+1))
	if err == nil && int64(len(content)) > r.loader.MaxFileBytes {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.loader.MaxFileBytes)
	}
	return content, err
}

// inner returns what a *fs.PathError wraps: our own error names the file.
func inner(err error) error {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}
