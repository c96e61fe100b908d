package kubefile

import (
	"errors"
	"fmt"
	"strings"
)

// Position is a place in a file. Lines and columns count from 1; 0 means that
// they are not known.
type Position struct {
	File   string
	Line   int
	Column int
}

// String returns "file:line:column", as editors read it.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// An Error is one thing that is wrong with a directory. Load reports every one
// that it finds, joined with errors.Join; errors.As finds the first.
type Error struct {
	Position
	Object string // "Service app/reviews"; empty if the file cannot be read that far
	Field  string // "spec.ports[0].port"; empty for the object or the file as a whole
	Err    error  // what is wrong
	Hint   string // what was probably meant, if that can be guessed
}

// Error returns "file:line:column: object: field: problem (did you mean "hint"?)".
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.String(), e.Object, e.Field} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(e.Err.Error())
	if e.Hint != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", e.Hint)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

var (
	// ErrUnknownField is what an Error wraps for a field that the kind does
	// not have.
	ErrUnknownField = errors.New("unknown field")
	// ErrUnknownKind is what an Error wraps for a kind or version that this
	// package does not know.
	ErrUnknownKind = errors.New("unknown kind")
	// ErrDuplicate is what an Error wraps for an object that is there twice.
	ErrDuplicate = errors.New("is there twice")
	// ErrTooLarge is what an Error wraps when a limit of Loader is passed.
	ErrTooLarge = errors.New("too large")
)
