package boundedfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if _, err := Read(name, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(name, 10); string(b) != "0123456789" || err != nil {
		t.Errorf("a file as large as it may be: %q, %v", b, err)
	}
	var size *SizeError
	if b, err := Read(name, 9); b != nil || !errors.As(err, &size) || size.Name != name {
		t.Errorf("a file that is too large: %q, %v", b, err)
	}
}
