package scope

import (
	"errors"
	"fmt"
	"strings"
)

// A ParseError is one thing that is wrong with a MeshConfig. Parse reports
// every one it finds, joined with errors.Join; errors.As finds the first.
type ParseError struct {
	// File is set by ParseFile.
	File string

	// Line and Column of the offending text, counted from 1; 0 if the YAML
	// parser does not tell.
	Line   int
	Column int

	// Path of the field: serviceScopeConfigs[0].servicesSelector. Empty for
	// the document as a whole.
	Path string

	// Problem says what is wrong.
	Problem string

	// Suggestion is what was probably meant, if that can be guessed.
	Suggestion string
}

func (e *ParseError) Error() string {
	var b strings.Builder
	b.WriteString(e.position())
	b.WriteString(": ")
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	b.WriteString(e.Problem)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, " (did you mean %s?)", e.Suggestion)
	}
	return b.String()
}

// position is file:line:column, as editors know it, or a phrase.
func (e *ParseError) position() string {
	switch {
	case e.File != "" && e.Column > 0:
		return fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	case e.File != "" && e.Line > 0:
		return fmt.Sprintf("%s:%d", e.File, e.Line)
	case e.File != "":
		return e.File
	case e.Column > 0:
		return fmt.Sprintf("mesh config line %d, column %d", e.Line, e.Column)
	case e.Line > 0:
		return fmt.Sprintf("mesh config line %d", e.Line)
	}
	return "mesh config"
}

// A CompileError says which part of a Config cannot be used. Configs that
// Parse returned compile; those built in code may not.
type CompileError struct {
	Path string // serviceScopeConfigs[0].servicesSelector
	Line int    // line of the entry, 0 if it was not parsed
	Err  error
}

func (e *CompileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("mesh config line %d: %s: %v", e.Line, e.Path, e.Err)
	}
	return fmt.Sprintf("mesh config: %s: %v", e.Path, e.Err)
}

func (e *CompileError) Unwrap() error { return e.Err }

var (
	errUnknownScope      = errors.New("unknown scope: want LOCAL or GLOBAL")
	errUnknownPrecedence = errors.New("unknown precedence")
)
