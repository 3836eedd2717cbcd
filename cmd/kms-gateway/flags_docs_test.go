package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flagsOfOthers are flags in the documentation that are not of kms-gateway.
var flagsOfOthers = []string{
	"audit-non-hmac-request-keys", "audit-non-hmac-response-keys", "force", "force-no-cache", "seal-wrap", // vault
	"seed", // chaos
}

func documentedPages(t *testing.T) map[string]string {
	t.Helper()
	files := []string{"../../README.md", "../../SECURITY.md", "../../CHANGELOG.md"}
	docs, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	pages := map[string]string{}
	for _, file := range append(files, docs...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		pages[filepath.Base(file)] = string(text)
	}
	return pages
}

// TestFlagsAreDocumented: the documentation names every flag of the program, and
// no other.
func TestFlagsAreDocumented(t *testing.T) {
	inText := regexp.MustCompile("`-([a-z][a-z-]*)")
	inCommand, inArguments := regexp.MustCompile(`\bkms-gateway( credentials| audit)? (-[^\n]*)`), regexp.MustCompile(`(?:^|\s)-([a-z][a-z-]+)`)
	documented := map[string]string{}
	for page, text := range documentedPages(t) {
		for _, match := range inText.FindAllStringSubmatch(text, -1) {
			documented[match[1]] = page
		}
		for _, command := range inCommand.FindAllStringSubmatch(strings.ReplaceAll(text, "\\\n", " "), -1) {
			for _, match := range inArguments.FindAllStringSubmatch(command[2], -1) {
				documented[match[1]] = page
			}
		}
	}
	require.Contains(t, documented, "listen")
	flags := map[string]bool{}
	for _, of := range []*commandFlags{
		newOptions(io.Discard).flags, credentialsFlags(&credentialsOptions{}, io.Discard), auditFlags(&auditOptions{}, io.Discard),
	} {
		of.VisitAll(func(f *flag.Flag) {
			flags[f.Name] = true
			require.Contains(t, documented, f.Name, "no page tells of -%s of %s", f.Name, of.Name())
		})
	}
	for name, page := range documented {
		require.True(t, flags[name] || slices.Contains(flagsOfOthers, name), "%s tells of -%s, which is no flag", page, name)
	}
}

// TestDocumentedDefaults: the defaults in the table of docs/endpoint.md are those
// of the program.
func TestDocumentedDefaults(t *testing.T) {
	t.Setenv("VAULT_NAMESPACE", "")
	_, table, found := strings.Cut(documentedPages(t)["endpoint.md"], "| Flag | Default | |\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	flags, compared := newOptions(io.Discard).flags, 0
	for _, row := range strings.Split(table, "\n")[1:] {
		cells := strings.Split(row, "|")
		names, defaults := strings.Split(strings.TrimSpace(cells[1]), ", "), strings.Split(strings.TrimSpace(cells[2]), ", ")
		if len(defaults) == 1 {
			defaults = slices.Repeat(defaults, len(names))
		}
		for i, name := range names {
			f := flags.Lookup(strings.Trim(name, "`-"))
			if f == nil {
				require.Equal(t, "…", name)
				continue
			}
			require.Contains(t, defaultsInWords(f), strings.Trim(defaults[i], "`"), name)
			compared++
		}
	}
	require.Greater(t, compared, 25)
}

// defaultsInWords are the ways in which the table may tell of a flag's default.
func defaultsInWords(f *flag.Flag) []string {
	switch f.DefValue {
	case "":
		return []string{"", "none", "off", "the whole mount", "VAULT_ADDR", "VAULT_NAMESPACE"}
	case "false":
		return []string{"", "off"}
	case "1048576":
		return []string{"1 MiB"}
	case "65536":
		return []string{"64 KiB"}
	}
	shorter := strings.TrimSuffix(f.DefValue, "0s")
	return []string{strings.ToLower(f.DefValue), shorter}
}
