// Package endpoints holds what is known of a mesh of clusters, and shows it to each client as that client can reach it.
package endpoints
