package fipstest_test

import (
	"crypto/rand"
	"testing"
	"testing/synctest"

	"github.com/eastwest-mesh/eastwest/internal/fipstest"
)

func TestRun(t *testing.T) { fipstest.Run(t, "^TestRandomInABubble$", "") }

func TestRandomInABubble(t *testing.T) {
	synctest.Test(t, func(*testing.T) { _, _ = rand.Read(make([]byte, 1)) })
}
