package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A report is what the story showed: sections of tables, and of checks that
// say whether it is what should have happened.
type report struct {
	Sections []*section `json:"sections"`
}

type section struct {
	Title  string   `json:"title"`
	Tables []*table `json:"tables,omitempty"`
	Checks []check  `json:"checks,omitempty"`
}

type table struct {
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
}

// A check is one claim about the mesh and whether it held. Every name is
// broken once by a test, which shows that the check can fail.
type check struct {
	Name   string `json:"name"`
	Claim  string `json:"claim"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // the evidence, or what was wrong
}

func (r *report) section(title string) *section {
	s := &section{Title: title}
	r.Sections = append(r.Sections, s)
	return s
}

func (s *section) table(header ...string) *table {
	t := &table{Header: header}
	s.Tables = append(s.Tables, t)
	return t
}

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.Rows = append(t.Rows, row)
}

// check records a claim. A nil err means that it held.
func (s *section) check(name, claim string, err error) {
	c := check{Name: name, Claim: claim, OK: err == nil}
	if err != nil {
		c.Detail = err.Error()
	}
	s.Checks = append(s.Checks, c)
}

// failed returns the names of the checks that did not hold, in order.
func (r *report) failed() []string {
	var names []string
	for _, s := range r.Sections {
		names = append(names, s.failed()...)
	}
	return names
}

func (s *section) failed() []string {
	var names []string
	for _, c := range s.Checks {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return names
}

func (r *report) names() []string {
	var names []string
	for _, s := range r.Sections {
		for _, c := range s.Checks {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// print shows a section for a person.
func (s *section) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", s.Title)
	for _, t := range s.Tables {
		fmt.Fprintln(w)
		t.print(w)
	}
	if len(s.Checks) > 0 {
		fmt.Fprintln(w)
	}
	for _, c := range s.Checks {
		mark := "ok  "
		if !c.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(w, "  %s  %s\n", mark, c.Claim)
		for _, line := range strings.Split(c.Detail, "\n") {
			if line != "" {
				fmt.Fprintf(w, "        %s\n", line)
			}
		}
	}
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(tw, "  %s\n", strings.Join(t.Header, "\t"))
	for _, row := range t.Rows {
		fmt.Fprintf(tw, "  %s\n", strings.Join(row, "\t"))
	}
	tw.Flush()
}
