package hbonetest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A specRule is a rule as docs/hbone-spec.md has it.
type specRule struct {
	name  string
	parts map[string]string // "Why", "Peers" and "Tests"
	tests []string          // of this package
}

var (
	anchor  = regexp.MustCompile(`<a id="([a-z0-9-]+)"></a>`)
	heading = regexp.MustCompile(`^### (\d+)\.(\d+) ([a-z0-9-]+)$`)
	mention = regexp.MustCompile("`(Test(?:Client|Server)/[a-z0-9-]+)`")
	link    = regexp.MustCompile(`\]\(#([a-z0-9-]+)\)`)
	part    = regexp.MustCompile(`^\*\*(Why|Peers|Tests)\*\*: (.*)$`)
)

// readSpec reads the rules of the specification, and checks their form.
func readSpec(t *testing.T) (rules []specRule, links []string) {
	text, err := os.ReadFile("../../docs/hbone-spec.md")
	if err != nil {
		t.Fatal(err)
	}
	pending, inside := "", "" // inside is the part that the line is of
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if m := anchor.FindStringSubmatch(line); m != nil {
			pending = m[1]
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			if m[3] != pending {
				t.Errorf("rule %s.%s %s has the anchor %q", m[1], m[2], m[3], pending)
			}
			rules = append(rules, specRule{name: m[3], parts: map[string]string{}})
		}
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			links = append(links, m[1])
		}
		if len(rules) == 0 {
			continue
		}
		last := &rules[len(rules)-1]
		if m := part.FindStringSubmatch(line); m != nil {
			if inside = m[1]; last.parts[inside] != "" {
				t.Errorf("rule %s has %s twice", last.name, inside)
			}
			line = m[2]
		} else if line == "" || strings.HasPrefix(line, "#") {
			inside = ""
		}
		if inside != "" {
			last.parts[inside] += line + "\n"
		}
		if inside == "Tests" {
			for _, m := range mention.FindAllStringSubmatch(line, -1) {
				last.tests = append(last.tests, m[1])
			}
		}
	}
	return rules, links
}

// TestSpecificationNamesTheTests: every rule that is tested says so, every
// test is of a rule, and every rule says why it is there, what each of the
// peers does, and how it is tested or why not.
func TestSpecificationNamesTheTests(t *testing.T) {
	rules, links := readSpec(t)
	want := map[string][]string{}
	for _, tt := range allTests() {
		if tt.role&asClient != 0 {
			want[tt.rule] = append(want[tt.rule], "TestClient/"+tt.rule)
		}
		if tt.role&asServer != 0 {
			want[tt.rule] = append(want[tt.rule], "TestServer/"+tt.rule)
		}
	}
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.name] {
			t.Errorf("rule %s is there twice", r.name)
		}
		seen[r.name] = true
		for _, name := range []string{"Why", "Peers", "Tests"} {
			if strings.TrimSpace(r.parts[name]) == "" {
				t.Errorf("rule %s has no %s", r.name, name)
			}
		}
		for _, peer := range []string{"ztunnel", "Envoy", "`pkg/hbone`"} {
			if !strings.Contains(r.parts["Peers"], peer) {
				t.Errorf("rule %s does not say what %s does", r.name, peer)
			}
		}
		slices.Sort(want[r.name])
		for _, name := range slices.Compact(want[r.name]) {
			if !slices.Contains(r.tests, name) {
				t.Errorf("rule %s does not name %s", r.name, name)
			}
		}
		for _, name := range r.tests {
			if _, rule, _ := strings.Cut(name, "/"); !slices.Contains(want[rule], name) {
				t.Errorf("rule %s names %s, which is no test", r.name, name)
			}
		}
	}
	for rule := range want {
		if !seen[rule] {
			t.Errorf("tests are named after %s, which is no rule of the specification", rule)
		}
	}
	for _, to := range links {
		if !seen[to] {
			t.Errorf("the specification links to #%s, which it does not have", to)
		}
	}
}

// TestNamesAreUnique: known failures are listed by name.
func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range allTests() {
		for _, r := range []role{asClient, asServer} {
			if key := fmt.Sprint(r, " ", tt.fullName()); tt.role&r != 0 && seen[key] {
				t.Errorf("two tests are named %s", tt.fullName())
			} else if tt.role&r != 0 {
				seen[key] = true
			}
		}
	}
}
