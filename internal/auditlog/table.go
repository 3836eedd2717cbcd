package auditlog

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// columns are what calls can be counted by.
var columns = []struct {
	name  string
	value func(c *Call, result string) string
}{
	{"month", func(c *Call, _ string) string { return c.Time.UTC().Format("2006-01") }},
	{"day", func(c *Call, _ string) string { return c.Time.UTC().Format(time.DateOnly) }},
	{"hour", func(c *Call, _ string) string { return c.Time.UTC().Format("2006-01-02T15") }},
	{"namespace", func(c *Call, _ string) string { return c.Namespace }},
	{"key", func(c *Call, _ string) string { return c.Key }},
	{"alias", func(c *Call, _ string) string { return c.Alias }},
	{"principal", func(c *Call, _ string) string { return c.Principal }},
	{"name", func(c *Call, _ string) string { return c.Name }},
	{"remote", func(c *Call, _ string) string { return c.Remote }},
	{"client", func(c *Call, _ string) string { return c.Client }},
	{"operation", func(c *Call, _ string) string { return c.Operation }},
	{"grant", func(c *Call, _ string) string { return strconv.FormatBool(c.Grant) }},
	{"result", func(_ *Call, result string) string { return result }},
}

// Columns returns the names of what calls can be counted by.
func Columns() []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return names
}

// Filter says which calls count. The zero value is all of them.
type Filter struct {
	Since, Until time.Time // Until itself is not in it
	// Key is a key's id, or with a slash at its end a folder with all below it.
	// Alias is the same for aliases, with or without their alias/.
	Key, Alias string
	// Principal is an entity's id or the name of a token.
	Principal, Operation string
	// Result is the result of a call; "!ok" is all but "ok".
	Result string
}

func (f *Filter) call(c *Call) bool {
	return !c.Time.Before(f.Since) && (f.Until.IsZero() || c.Time.Before(f.Until)) &&
		within(f.Key, c.Key) && (f.Alias == "" || within("alias/"+strings.TrimPrefix(f.Alias, "alias/"), c.Alias)) &&
		(f.Principal == "" || f.Principal == c.Principal || f.Principal == c.Name) &&
		(f.Operation == "" || f.Operation == c.Operation)
}

func (f *Filter) result(result string) bool {
	if not, negative := strings.CutPrefix(f.Result, "!"); negative {
		return result != not
	}
	return f.Result == "" || f.Result == result
}

func within(wanted, name string) bool {
	if strings.HasSuffix(wanted, "/") {
		return strings.HasPrefix(name, wanted)
	}
	return wanted == "" || wanted == name
}

// Table counts calls.
type Table struct {
	filter  Filter
	by      []int // of columns
	maxRows int
	rows    map[string]*row
	others  row // the calls for which there was no row left
	buffer  []byte
}

type row struct {
	values []string
	calls  int
	last   time.Time
}

// NewTable returns a table that counts the calls of a filter by columns. It
// keeps at most maxRows rows: what paths people ask for is theirs to say.
func NewTable(filter Filter, by []string, maxRows int) (*Table, error) {
	t := &Table{filter: filter, maxRows: maxRows, rows: map[string]*row{}}
	for _, name := range by {
		i := slices.Index(Columns(), name)
		if i < 0 {
			return nil, fmt.Errorf("%q is no column; there are %s", name, strings.Join(Columns(), ", "))
		}
		t.by = append(t.by, i)
	}
	return t, nil
}

// Add counts a call.
func (t *Table) Add(c Call) {
	if !t.filter.call(&c) {
		return
	}
	for _, r := range c.Results {
		if t.filter.result(r.Result) {
			t.row(&c, r.Result).add(r.Calls, c.Time)
		}
	}
}

func (r *row) add(calls int, at time.Time) {
	r.calls += calls
	if at.After(r.last) {
		r.last = at
	}
}

// maxValue is the most bytes of a value: names of keys have 256 characters, but
// a path that was refused can be anything.
const maxValue = 300

func (t *Table) row(c *Call, result string) *row {
	t.buffer = t.buffer[:0]
	for _, i := range t.by {
		t.buffer = append(append(t.buffer, clean(columns[i].value(c, result))...), 0)
	}
	if r := t.rows[string(t.buffer)]; r != nil {
		return r
	}
	if len(t.rows) >= t.maxRows {
		return &t.others
	}
	key := string(t.buffer)
	r := &row{values: strings.Split(strings.TrimSuffix(key, "\x00"), "\x00")}
	t.rows[key] = r
	return r
}

// clean makes a value fit for a terminal and a table: callers choose paths and
// user agents.
func clean(value string) string {
	if len(value) > maxValue {
		value = value[:maxValue]
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return '?'
		}
		return c
	}, value)
}

// Others returns how many calls are in no row, because there were too many.
func (t *Table) Others() int { return t.others.calls }

// sorted returns the rows, by their values from the left.
func (t *Table) sorted() []*row {
	rows := make([]*row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *row) int { return slices.Compare(a.values, b.values) })
	return rows
}

func (t *Table) head() []string {
	var names []string
	for _, i := range t.by {
		names = append(names, columns[i].name)
	}
	return append(names, "calls", "last")
}

func (r *row) cells() []string {
	return append(slices.Clone(r.values), strconv.Itoa(r.calls), r.last.UTC().Format(time.RFC3339))
}

// Formats are what WriteTo can write.
var Formats = []string{"table", "csv", "json"}

// Write writes the table in one of Formats.
func (t *Table) Write(w io.Writer, format string) error {
	switch format {
	case "csv":
		return t.writeCSV(w)
	case "json":
		return t.writeJSON(w)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, strings.Join(t.head(), "\t"))
	for _, r := range t.sorted() {
		cells := r.cells()
		for i, cell := range cells {
			if cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	return out.Flush()
}

func (t *Table) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(t.head()); err != nil {
		return err
	}
	for _, r := range t.sorted() {
		cells := r.cells()
		for i, cell := range cells {
			// A spreadsheet would take these for formulas.
			if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				cells[i] = "'" + cell
			}
		}
		if err := out.Write(cells); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// writeJSON writes one object a line.
func (t *Table) writeJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	head := t.head()
	for _, r := range t.sorted() {
		object := map[string]any{"calls": r.calls, "last": r.last.UTC().Format(time.RFC3339)}
		for i, value := range r.values {
			object[head[i]] = value
		}
		if err := out.Encode(object); err != nil {
			return err
		}
	}
	return nil
}
