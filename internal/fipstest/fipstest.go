// Package fipstest runs a package's tests in the Go Cryptographic Module's
// strictest mode, GODEBUG=fips140=only, in which whatever FIPS 140-3 does not
// approve of is an error or a panic.
package fipstest

import (
	"crypto/fips140"
	"crypto/rand"
	"os"
	"os/exec"
	"testing"
	"testing/cryptotest"
)

// In FIPS mode Go takes entropy from the jitter of the clock, whenever more
// readers of randomness are at work than before. In a synctest bubble that
// clock stands still, and Go panics. So there the tests get their randomness
// from elsewhere, until the process ends: this T never does. rand.Reader stays
// what it is, since the mode allows no other.
func init() {
	if !fips140.Enforced() {
		return
	}
	reader := rand.Reader
	cryptotest.SetGlobalRandom(new(testing.T), 1)
	rand.Reader = reader
}

// Run runs the test binary again, with those of its tests that match run and
// do not match skip (regular expressions; if empty, all and none). In that
// process it does nothing.
func Run(t *testing.T, run, skip string) {
	t.Helper()
	if fips140.Enforced() {
		t.Skip("this is the run in FIPS 140-only mode")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.short", "-test.run="+run, "-test.skip="+skip)
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in FIPS 140-only mode: %v\n%s", err, out)
	}
}
