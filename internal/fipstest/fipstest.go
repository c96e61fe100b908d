// Package fipstest runs a package's tests in the Go Cryptographic Module's
// strictest mode, GODEBUG=fips140=only, in which whatever FIPS 140-3 does not
// approve of is an error or a panic.
package fipstest

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"testing"
)

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
