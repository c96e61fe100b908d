package federation

import (
	"testing"

	"github.com/eastwest-mesh/eastwest/internal/fipstest"
)

// TestFIPS leaves out what the reference implementation serves: in go-jose it
// makes SHA-1 thumbprints.
func TestFIPS(t *testing.T) {
	fipstest.Run(t, "", "^(TestWithGoSPIFFE|TestHandlerReadByGoSPIFFE|TestWhatIsRefused|FuzzParse)$")
}
