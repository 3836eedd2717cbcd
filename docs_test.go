package kmshmac

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSecurityPageNamesTests holds SECURITY.md to its promise that every test
// it names exists, and that each line of its table names one.
func TestSecurityPageNamesTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	exists := testNames(t)
	name := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	for _, match := range name.FindAllStringSubmatch(string(page), -1) {
		require.True(t, exists[match[1]], "%s is no test", match[1])
	}
	_, table, _ := strings.Cut(string(page), "| From | What | Shown by |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[1:]
	require.NotEmpty(t, rows)
	for _, row := range rows {
		require.Regexp(t, name, row)
	}
}

// TestPagesForDevelopersNameWhatIsThere holds the pages about the inside to the
// tests and files that they name.
func TestPagesForDevelopersNameWhatIsThere(t *testing.T) {
	t.Parallel()
	exists := testNames(t)
	name, file := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`"), regexp.MustCompile("`([a-z0-9_/]+\\.go)`")
	for _, page := range []string{"CONTRIBUTING.md", "docs/architecture.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, match := range name.FindAllStringSubmatch(string(text), -1) {
			require.True(t, exists[match[1]], "%s: %s is no test", page, match[1])
		}
		files := file.FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, files)
		for _, match := range files {
			require.FileExists(t, match[1], page)
		}
	}
}

// testNames returns the names of all tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range declared.FindAllSubmatch(source, -1) {
			names[string(match[1])] = true
		}
		return err
	}))
	return names
}
