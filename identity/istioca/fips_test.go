package istioca

import (
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/fipstest"
)

// TestFIPS leaves out the test that makes keys which are too weak for FIPS.
func TestFIPS(t *testing.T) { fipstest.Run(t, "", "^TestRefusals$") }
