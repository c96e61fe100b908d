// Package boundedfile reads files that others write, and that may be larger than anybody expects.
package boundedfile

import (
	"fmt"
	"io"
	"os"
)

// A SizeError is about a file that is larger than it may be.
type SizeError struct {
	Name  string
	Limit int64 // in bytes
}

func (e *SizeError) Error() string { return fmt.Sprintf("%s is larger than %d bytes", e.Name, e.Limit) }

// Read is os.ReadFile for files of up to limit bytes. Of a larger one, it reads no more than that, and returns a
// *SizeError.
func Read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, &SizeError{name, limit}
	}
	return b, nil
}
