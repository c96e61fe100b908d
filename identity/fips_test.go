package identity

import (
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/fipstest"
)

// TestFIPS runs all tests of the package.
func TestFIPS(t *testing.T) { fipstest.Run(t, "", "") }
