// Package hbone makes and accepts HBONE tunnels.
package hbone
