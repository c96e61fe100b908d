package dnsproxy

import "strings"

// canonical is the form of names in tables: lower case, no trailing dot.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
