package istiod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTokens(t *testing.T) {
	for _, kept := range []struct{ name, dir string }{{"in memory", ""}, {"in files", filepath.Join(t.TempDir(), "a", "tokens")}} {
		t.Run(kept.name, func(t *testing.T) {
			tokens := openTokens(t, kept.dir)
			one := issue(t, tokens, eastNode1)
			if again := issue(t, tokens, eastNode1); again != one {
				t.Errorf("two tokens of one caller: %q and %q", one, again)
			}
			if other := issue(t, tokens, westNode1); other == one {
				t.Error("two callers have one token")
			}
			if c, err := tokens.Lookup(one); err != nil || c != eastNode1 {
				t.Errorf("the token is that of %v, %v", c, err)
			}
			for _, wrong := range []string{"", "x", one + "x", one[1:], strings.ToUpper(one)} {
				if c, err := tokens.Lookup(wrong); !errors.Is(err, ErrToken) {
					t.Errorf("%q is the token of %v, %v", wrong, c, err)
				}
			}
			tokens.Withdraw(eastNode1)
			tokens.Withdraw(eastNode1)
			if c, err := tokens.Lookup(one); !errors.Is(err, ErrToken) {
				t.Errorf("a token that was withdrawn is that of %v, %v", c, err)
			}
		})
	}
}

func issue(t *testing.T, tokens *Tokens, c Caller) string {
	t.Helper()
	token, err := tokens.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	tokens := openTokens(t, dir)
	for _, tt := range []struct {
		caller Caller
		file   string
	}{
		{eastNode1, "east.istio-system.ztunnel.east-node-1"},
		{eastGateway, "east.istio-system.eastwest"},
		{NodeProxy("east", "ip-10-0-0-1.ec2.internal"), "east.istio-system.ztunnel.ip-10-0-0-1.ec2.internal"},
		// These would have one file if dots were not told apart.
		{Caller{"a.b", "c", "d", ""}, "a%2Eb.c.d"},
		{Caller{"a", "b", "c.d", ""}, "a.b.c%2Ed"},
		{Caller{"a", "b", "c", "d"}, "a.b.c.d"},
		{Caller{"..", "../..", "/etc/passwd", "../x"}, "%2E%2E.%2E%2E%2F%2E%2E.%2Fetc%2Fpasswd...%2Fx"},
	} {
		token := issue(t, tokens, tt.caller)
		if got := tokens.Path(tt.caller); got != filepath.Join(dir, tt.file) {
			t.Errorf("%s: %s, want %s", tt.caller, got, tt.file)
		}
		data, err := os.ReadFile(filepath.Join(dir, tt.file))
		if err != nil || string(data) != token {
			t.Errorf("%s holds %q, %v; want %q", tt.file, data, err, token)
		}
		if mode := fileMode(t, filepath.Join(dir, tt.file)); mode != 0o600 {
			t.Errorf("%s has mode %#o", tt.file, mode)
		}
	}
	if mode := fileMode(t, dir); mode != 0o700 {
		t.Errorf("the directory has mode %#o", mode)
	}
	if temps, _ := filepath.Glob(filepath.Join(dir, ".*")); len(temps) > 0 {
		t.Errorf("left behind: %q", temps)
	}
}

func fileMode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// Two processes that share a directory give a caller the same token, whoever
// is first.
func TestSharedTokens(t *testing.T) {
	dir := t.TempDir()
	const many = 16
	got := make([]string, many)
	var all sync.WaitGroup
	for i := range many {
		tokens := openTokens(t, dir)
		all.Go(func() { got[i], _ = tokens.Issue(eastNode1) })
	}
	all.Wait()
	for _, token := range got {
		if token == "" || token != got[0] {
			t.Fatalf("the tokens differ: %q", got)
		}
	}
	later := openTokens(t, dir)
	if token := issue(t, later, eastNode1); token != got[0] {
		t.Errorf("after a restart the token is %q, not %q", token, got[0])
	}
	// What one withdraws is the same when it comes back.
	later.Withdraw(eastNode1)
	if token := issue(t, later, eastNode1); token != got[0] {
		t.Errorf("after it came back the token is %q, not %q", token, got[0])
	}
}

func TestIssueRefuses(t *testing.T) {
	whole := newToken()
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"empty", "", 0o600, "does not hold a whole token"},
		{"cut off", whole[:20], 0o600, "does not hold a whole token"},
		{"longer", whole + "xx", 0o600, "does not hold a whole token"},
		{"something else", strings.Repeat("!", len(whole)), 0o600, "does not hold a whole token"},
		{"readable by all", whole, 0o644, "may be used by others"},
		{"readable by the group", whole, 0o640, "may be used by others"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tokens := openTokens(t, t.TempDir())
			path := tokens.Path(eastNode1)
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := tokens.Issue(eastNode1)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), whole) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
	t.Run("incomplete callers", func(t *testing.T) {
		for _, c := range []Caller{{}, {"", "b", "c", ""}, {"a", "", "c", ""}, {"a", "b", "", ""}} {
			if _, err := openTokens(t, t.TempDir()).Issue(c); err == nil {
				t.Errorf("%v has a token", c)
			}
		}
	})
	t.Run("copied from another caller", func(t *testing.T) {
		tokens := openTokens(t, t.TempDir())
		if err := os.WriteFile(tokens.Path(westNode1), []byte(issue(t, tokens, eastNode1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.Issue(westNode1); err == nil || !strings.Contains(err.Error(), eastNode1.String()) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("directory is a file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenTokens(file); err == nil {
			t.Error("no error")
		}
	})
}

// Tokens are those of what is in the directories, as it comes and goes.
func TestTokensFollowObjects(t *testing.T) {
	w := newWorld(t)
	w.config.Tokens = openTokens(t, t.TempDir())
	w.serve()
	has := func(c Caller) bool {
		data, err := os.ReadFile(w.config.Tokens.Path(c))
		if err != nil {
			return false
		}
		got, err := w.config.Tokens.Lookup(string(data))
		return err == nil && got == c
	}
	for _, c := range []Caller{eastNode1, NodeProxy("east", "east-node-2"), westNode1, eastGateway} {
		if !has(c) {
			t.Errorf("%s has no token", c)
		}
	}
	before := w.edit("east", "cluster.yaml", "east-node-1", "east-node-9")
	w.await("the new node has a token, the old one none", func() bool {
		return has(NodeProxy("east", "east-node-9")) && !has(eastNode1)
	})
	w.write("east", "cluster.yaml", before)
	w.await("the old node again", func() bool { return has(eastNode1) && !has(NodeProxy("east", "east-node-9")) })

	w.edit("east", "cluster.yaml", "  name: eastwest\n", "  name: eastwest\n  annotations: {gateway.istio.io/service-account: other}\n")
	other := Caller{Cluster: "east", Namespace: "istio-system", ServiceAccount: "other"}
	w.await("the gateway's account is another", func() bool { return has(other) && !has(eastGateway) })
	// One that stands for another cluster's gateway is nobody here.
	w.edit("east", "cluster.yaml", "istio-east-west", "istio-remote")
	w.await("the gateway is another cluster's", func() bool { return !has(other) })
}
