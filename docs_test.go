package kmshmac

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
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

// TestPagesNameWhatIsThere holds all pages to the tests that they name, also as
// the pattern of -run, and those about the inside to the files.
func TestPagesNameWhatIsThere(t *testing.T) {
	t.Parallel()
	exists, named := testNames(t), 0
	name, pattern := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`"), regexp.MustCompile(`-run '?([A-Za-z0-9_^$|()]+)`)
	file := regexp.MustCompile("`([a-z0-9_/-]+\\.go)`")
	require.NoError(t, walkFiles(func(page, text string) {
		if !strings.HasSuffix(page, ".md") {
			return
		}
		for _, match := range name.FindAllStringSubmatch(text, -1) {
			require.True(t, exists[match[1]], "%s: %s is no test", page, match[1])
			named++
		}
		for _, match := range pattern.FindAllStringSubmatch(text, -1) {
			found := slices.ContainsFunc(slices.Collect(maps.Keys(exists)), regexp.MustCompile(match[1]).MatchString)
			require.True(t, found || match[1] == "^$", "%s: -run %s is no test", page, match[1])
		}
		if page == "CONTRIBUTING.md" || page == "docs/architecture.md" {
			files := file.FindAllStringSubmatch(text, -1)
			require.NotEmpty(t, files)
			for _, match := range files {
				require.FileExists(t, match[1], page)
			}
		}
	}))
	require.Greater(t, named, 50)
}

// TestAPIPageHasEveryPath: docs/api.md and the engine have the same paths with the
// same methods, and every field has its place on the page.
func TestAPIPageHasEveryPath(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/api.md")
	require.NoError(t, err)
	m := newMount(t)
	type operation struct {
		pattern string
		method  logical.Operation
	}
	documented := map[operation]bool{}
	methods := map[string]logical.Operation{
		"POST": logical.UpdateOperation, "GET": logical.ReadOperation, "LIST": logical.ListOperation,
		"DELETE": logical.DeleteOperation, "PATCH": logical.PatchOperation,
	}
	rows := regexp.MustCompile("(?m)^\\| (\\[?`[A-Z]+`.*?) \\| (`/kms/.*) \\|$").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, rows)
	for _, row := range rows {
		for _, method := range regexp.MustCompile("`([A-Z]+)`").FindAllStringSubmatch(row[1], -1) {
			for _, url := range urlsOfRow(row[2]) {
				path := m.b.Route(url)
				require.NotNil(t, path, "%s is documented, and no path", url)
				op := methods[method[1]]
				require.Contains(t, path.Operations, op, "%s %s", method[1], url)
				documented[operation{path.Pattern, op}] = true
			}
		}
	}
	for _, path := range m.b.Paths {
		for op := range path.Operations {
			if op == logical.CreateOperation {
				op = logical.UpdateOperation
			}
			require.True(t, documented[operation{path.Pattern, op}], "%s of %s is not documented", op, path.Pattern)
		}
		for name, field := range path.Fields {
			if field.Description != "Not for HMAC keys." && !strings.Contains(path.Pattern, "(?P<"+name+">") {
				require.True(t, strings.Contains(string(page), "`"+name), "%s of %s is not documented", name, path.Pattern)
			}
		}
	}
}

// urlsOfRow returns URLs that a cell of a table in docs/api.md is about.
func urlsOfRow(cell string) (urls []string) {
	quoted := regexp.MustCompile("`([^`]+)`")
	if template, names, ok := strings.Cut(cell, " for "); ok {
		for _, name := range quoted.FindAllStringSubmatch(names, -1) {
			urls = append(urls, urlsOfRow(strings.Replace(template, "<operation>", name[1], 1))...)
		}
		return urls
	}
	for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
		if url, ok := strings.CutPrefix(match[1], "/kms/"); ok {
			urls = append(urls, regexp.MustCompile(`:[a-z_]+`).ReplaceAllString(url, "p/a"))
		}
	}
	if strings.Contains(cell, "any folder below it") {
		urls = append(urls, strings.TrimSuffix(urls[0], "/")+"/p/")
	}
	return urls
}

// TestMetricsAreDocumented: the documentation and the examples have every metric
// of the endpoint, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	metric := regexp.MustCompile(`kms_gateway_[a-z_]+`)
	exist, told := map[string]bool{}, map[string]string{}
	require.NoError(t, walkFiles(func(path, text string) {
		switch {
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			for _, name := range regexp.MustCompile(`"(kms_gateway_[a-z_]+)"`).FindAllStringSubmatch(text, -1) {
				exist[name[1]] = true
			}
		case strings.HasSuffix(path, ".md"), strings.HasPrefix(path, "examples/monitoring"):
			for _, name := range metric.FindAllString(text, -1) {
				told[name] = path
			}
		}
	}))
	page, err := os.ReadFile("docs/endpoint.md")
	require.NoError(t, err)
	require.NotEmpty(t, exist)
	for name := range exist {
		require.True(t, strings.Contains(string(page), "`"+name+"`"), "docs/endpoint.md does not tell of %s", name)
	}
	for name, path := range told {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		require.True(t, exist[name] || exist[base], "%s: %s is no metric", path, name)
	}
}

// TestLinks: what the pages link to in this repository is there, sections too.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages, links := map[string]string{}, 0
	require.NoError(t, walkFiles(func(path, text string) {
		if strings.HasSuffix(path, ".md") {
			pages[path] = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
		}
	}))
	for page, text := range pages {
		for _, match := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, section, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, ":") {
				continue
			}
			links++
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
				_, err := os.Stat(file)
				require.NoError(t, err, "%s links to %s", page, match[1])
			}
			if section != "" {
				require.Contains(t, sections(pages[file]), section, "%s links to %s", page, match[1])
			}
		}
	}
	require.Greater(t, links, 100)
}

// sections returns the names by which the headings of a page are linked to.
func sections(page string) (names []string) {
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		names = append(names, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-"))
	}
	return names
}

// walkFiles visits the text of the module's files, but for those that are built
// or hidden.
func walkFiles(visit func(path, text string)) error {
	return filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && path != "."
		if entry.IsDir() {
			if hidden || path == "bin" || path == "dist" {
				return filepath.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && !hidden {
			visit(path, string(text))
		}
		return err
	})
}

// testNames returns the names of all tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	require.NoError(t, walkFiles(func(path, source string) {
		if strings.HasSuffix(path, "_test.go") {
			for _, match := range declared.FindAllStringSubmatch(source, -1) {
				names[match[1]] = true
			}
		}
	}))
	return names
}
