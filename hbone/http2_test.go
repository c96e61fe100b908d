package hbone

import (
	"reflect"
	"testing"
	"time"

	"github.com/eastwest-mesh/eastwest/internal/h2"
)

func TestHTTP2Config(t *testing.T) {
	memory := h2.NewMemory(8)
	got := HTTP2{
		StreamWindow:   1,
		TunnelWindow:   2,
		MaxFrameSize:   3,
		MaxHeaderBytes: 4,
		PingInterval:   5,
		PingTimeout:    6,
	}.config(memory, 7*time.Second, nil)
	want := h2.Config{
		Memory:           memory,
		StreamWindow:     1,
		ConnWindow:       2,
		MaxFrameSize:     3,
		MaxHeaderBytes:   4,
		PingInterval:     5,
		PingTimeout:      6,
		HandshakeTimeout: 7 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config = %+v, want %+v", got, want)
	}
}
