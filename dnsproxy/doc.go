// Package dnsproxy answers DNS questions for the names of a mesh and gives virtual addresses to hosts that have none.
package dnsproxy
