package auditlog

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// line is a line of an audit log as Vault 1.21 writes it, less what nobody
// reads. extra goes into the request, and answer is its answer's data.
func line(at, operation, path, extra, answer string) string {
	quoted, _ := json.Marshal(path) // of a string, cannot fail
	return fmt.Sprintf(`{"auth":{"display_name":"approle","entity_id":"e-1","metadata":{"role_name":"checkout"}},"request":{"id":"id-1","operation":%q,`+
		`"path":%s,"remote_address":"10.0.0.1","namespace":{"id":"root"},"headers":{"user-agent":["kms-gateway/v1"]}%s},"response":{"data":%s,"mount_point":"kms/"},`+
		`"time":%q,"type":"response"}`+"\n", operation, quoted, extra, answer, at)
}

func denied(path, correlation string) string {
	text := line("2026-11-25T10:00:00Z", "update", path, "", `{"error":"hmac-sha256:00"}`)
	text = strings.Replace(text, `"user-agent"`, `"x-correlation-id":["`+correlation+`"],"user-agent"`, 1)
	return strings.Replace(text, `,"request":{`, `,"error":"1 error occurred:\n\t* permission denied\n\n","request":{`, 1)
}

func callsOf(t *testing.T, text string) (calls []Call, stats Stats) {
	t.Helper()
	r := NewReader("/kms/", "", func(c Call) { calls = append(calls, c) })
	require.NoError(t, r.Read(strings.NewReader(text)))
	return calls, r.Close()
}

func TestCalls(t *testing.T) {
	const at = "2026-11-25T10:00:00.5Z"
	for name, test := range map[string]struct {
		line                  string
		operation, key, alias string
		grant                 bool
		results               []Result
	}{
		"mac": {
			line(at, "update", "kms/generate-mac/payments/a", "", `{"key_id":"hmac-sha256:1","mac":"hmac-sha256:2"}`),
			"GenerateMac", "payments/a", "", false, []Result{{"ok", 1}},
		},
		"by alias": {
			line(at, "update", "kms/verify-mac/alias/payments/x", "", `{"key_id":"payments/a","mac_valid":true}`),
			"VerifyMac", "payments/a", "alias/payments/x", false, []Result{{"ok", 1}},
		},
		"by grant": {
			line(at, "update", "kms/granted/generate-mac/a", "", `{"key_id":"a"}`),
			"GenerateMac", "a", "", true, []Result{{"ok", 1}},
		},
		"refused": {
			line(at, "update", "kms/verify-mac/a", "", `{"data":{"type":"KMSInvalidMacException","message":"hmac-sha256:1"},"error":"hmac-sha256:2"}`),
			"VerifyMac", "a", "", false, []Result{{"KMSInvalidMacException", 1}},
		},
		"refused, hashed": {
			line(at, "update", "kms/verify-mac/a", "", `{"data":{"type":"hmac-sha256:1"},"error":"hmac-sha256:2"}`),
			"VerifyMac", "a", "", false, []Result{{"refused", 1}},
		},
		"a text": {
			line(at, "update", "kms/verify-mac/a", "", `{"key_id":"a","batch_size":5,"macs_valid":"hmac-sha256:1","errors":{"1":{"type":"KMSInvalidMacException"},"4":{"type":"KMSInvalidMacException"}}}`),
			"VerifyMac", "a", "", false, []Result{{"KMSInvalidMacException", 2}, {"ok", 3}},
		},
		"a list": {
			line(at, "update", "kms/generate-mac/a", "", `{"key_id":"a","macs":["hmac-sha256:1","hmac-sha256:2",""],"errors":{"2":{"type":"ValidationException"}}}`),
			"GenerateMac", "a", "", false, []Result{{"ValidationException", 1}, {"ok", 2}},
		},
		"a list of verdicts": {
			line(at, "update", "kms/verify-mac/a", "", `{"key_id":"a","macs_valid":[true,true,true]}`),
			"VerifyMac", "a", "", false, []Result{{"ok", 3}},
		},
		"objects": {
			line(at, "update", "kms/verify-mac/a", "", `{"key_id":"a","batch_results":[{"mac_valid":true},{"error":{"type":"KMSInvalidMacException"}}]}`),
			"VerifyMac", "a", "", false, []Result{{"KMSInvalidMacException", 1}, {"ok", 1}},
		},
		"create":          {line(at, "create", "kms/keys/a/b", "", `{"key_id":"a/b"}`), "CreateKey", "a/b", "", false, []Result{{"ok", 1}}},
		"create, any id":  {line(at, "update", "kms/keys", "", `{"key_id":"generated"}`), "CreateKey", "generated", "", false, []Result{{"ok", 1}}},
		"describe":        {line(at, "update", "kms/keys/a", "", `{}`), "UpdateKeyDescription", "a", "", false, []Result{{"ok", 1}}},
		"delete":          {line(at, "delete", "kms/keys/a", "", `{"key_id":"a"}`), "ScheduleKeyDeletion", "a", "", false, []Result{{"ok", 1}}},
		"list":            {line(at, "list", "kms/keys/payments/", "", `{"keys":[]}`), "ListKeys", "payments/", "", false, []Result{{"ok", 1}}},
		"alias":           {line(at, "create", "kms/aliases/payments/x", "", `{}`), "CreateAlias", "", "alias/payments/x", false, []Result{{"ok", 1}}},
		"config":          {line(at, "read", "kms/config", "", `{}`), "read config", "", "", false, []Result{{"ok", 1}}},
		"no operation":    {line(at, "update", "kms/make-tea/a", "", `{"error":"hmac-sha256:1"}`), "update make-tea", "", "", false, []Result{{"error", 1}}},
		"unexpected type": {line(at, "update", "kms/generate-mac/a", "", `{"errors":"hmac-sha256:1"}`), "GenerateMac", "a", "", false, []Result{{"ok", 1}}},
		"prefixed":        {"@cee: " + line(at, "update", "kms/generate-mac/a", "", `{}`), "GenerateMac", "a", "", false, []Result{{"ok", 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			calls, stats := callsOf(t, test.line)
			require.Len(t, calls, 1)
			c := calls[0]
			slices.SortFunc(c.Results, func(a, b Result) int { return strings.Compare(a.Result, b.Result) })
			require.Equal(t, test.operation, c.Operation)
			require.Equal(t, test.key, c.Key)
			require.Equal(t, test.alias, c.Alias)
			require.Equal(t, test.grant, c.Grant)
			require.Equal(t, test.results, c.Results)
			require.Equal(t, "e-1", c.Principal)
			require.Equal(t, "approle/checkout", c.Name)
			require.Equal(t, "10.0.0.1", c.Remote)
			require.Equal(t, time.Date(2026, 11, 25, 10, 0, 0, 5e8, time.UTC), c.Time)
			require.Equal(t, Stats{Lines: 1, Calls: 1}, stats)
		})
	}
}

// TestBulk: a bulk request is a call for each key, by the name of the operation.
func TestBulk(t *testing.T) {
	const at = "2026-11-25T10:00:00Z"
	told := func(path, results string) (rows []string, stats Stats) {
		calls, stats := callsOf(t, line(at, "update", "kms/bulk/"+path, "", `{"failed":1,"results":[`+results+`]}`))
		for _, c := range calls {
			require.Equal(t, "e-1", c.Principal)
			rows = append(rows, fmt.Sprint(c.Operation, " ", c.Key, " ", c.Alias, " ", c.Results))
		}
		return rows, stats
	}
	rows, stats := told("schedule-key-deletion/payments", `{"key_id":"payments/a","result":"done"},{"key_id":"payments/b","result":"would change"},`+
		`{"key_id":"payments/c","error":{"type":"KMSInvalidStateException"}}`)
	require.Equal(t, []string{
		"ScheduleKeyDeletion payments/a  [{ok 1}]", "ScheduleKeyDeletion payments/b  [{dry_run 1}]", "ScheduleKeyDeletion payments/c  [{KMSInvalidStateException 1}]",
	}, rows)
	require.Equal(t, Stats{Lines: 1, Calls: 1}, stats)
	rows, _ = told("disable-key/payments/", `{"key_id":"payments/a","result":"unchanged"}`)
	require.Equal(t, []string{"DisableKey payments/a  [{ok 1}]"}, rows)
	rows, _ = told("move-aliases/payments", `{"key_id":"payments/a","alias_name":"alias/payments/x","result":"done"}`)
	require.Equal(t, []string{"UpdateAlias payments/a alias/payments/x [{ok 1}]"}, rows)
	rows, _ = told("disable-key/payments", ``)
	require.Empty(t, rows)
	rows, stats = told("disable-key/payments", `{"key_id":"hmac-sha256:1","result":"hmac-sha256:2"},{"key_id":"hmac-sha256:3","error":{"type":"hmac-sha256:4"}}`)
	require.Equal(t, []string{"DisableKey payments/  [{hashed 1}]", "DisableKey payments/  [{refused 1}]"}, rows)
	require.Equal(t, Stats{Lines: 1, Calls: 1, Hashed: 1}, stats)

	calls, _ := callsOf(t, denied("kms/bulk/disable-key/payments", "c-1"))
	require.Len(t, calls, 1)
	require.Equal(t, "DisableKey payments/ [{denied 1}]", fmt.Sprint(calls[0].Operation, " ", calls[0].Key, " ", calls[0].Results))
}

func TestWhatIsLeftOut(t *testing.T) {
	mine := line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/a", "", `{}`)
	calls, stats := callsOf(t, strings.Join([]string{
		strings.Replace(mine, `"type":"response"`, `"type":"request"`, 1),
		strings.Replace(mine, `kms/generate-mac/a`, `kms2/generate-mac/a`, 1),
		strings.Replace(mine, `kms/generate-mac/a`, `sys/mounts/kms/tune`, 1),
		mine[:len(mine)-20] + "\n",
		"rubbish\n", "\n",
		strings.TrimSuffix(mine, "\n"), // the last line without an end
	}, ""))
	require.Len(t, calls, 1)
	require.Equal(t, Stats{Lines: 7, Calls: 1, Unreadable: 2}, stats)

	calls, stats = callsOf(t, line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/alias/x", "", `{"key_id":"hmac-sha256:1"}`))
	require.Empty(t, calls[0].Key)
	require.Equal(t, 1, stats.Hashed)
}

// TestDenied: what the endpoint asks in several ways is one call, which ended as
// the last request did.
func TestDenied(t *testing.T) {
	by := func(operation, line string) string {
		return strings.Replace(line, `"operation":"update"`, `"operation":"`+operation+`"`, 1)
	}
	granted := line("2026-11-25T10:00:00Z", "update", "kms/granted/generate-mac/a", "", `{"key_id":"a"}`)
	granted = strings.Replace(granted, `"user-agent"`, `"x-correlation-id":["c-2"],"user-agent"`, 1)
	plain, grant := "kms/generate-mac/a", "kms/granted/generate-mac/a"
	calls, _ := callsOf(t, denied(plain, "c-1")+denied(plain, "c-2")+denied(plain, "c-3")+denied(grant, "c-1")+granted+
		by("patch", denied(plain, "c-4"))+denied(plain, "c-4")+by("patch", denied(grant, "c-4"))+denied(grant, "c-4"))
	require.Equal(t, []string{"c-1 true [{denied 1}]", "c-2 true [{ok 1}]", "c-3 false [{denied 1}]", "c-4 true [{denied 1}]"}, endings(calls))

	// Whoever calls Vault chooses the ids, and must not hide anything by them.
	other := strings.ReplaceAll(granted, "kms/granted/generate-mac/a", "kms/generate-mac/b")
	calls, _ = callsOf(t, denied(plain, "c-2")+other+denied(plain, "c-2"))
	require.Equal(t, []string{"c-2 false [{denied 1}]", "c-2 false [{denied 1}]", "c-2 false [{ok 1}]"}, endings(calls))
	stranger := strings.Replace(granted, "e-1", "e-2", 1)
	calls, _ = callsOf(t, denied(plain, "c-2")+stranger)
	require.Equal(t, []string{"c-2 false [{denied 1}]", "c-2 true [{ok 1}]"}, endings(calls))

	var many strings.Builder
	for i := range 3 * maxDenied {
		many.WriteString(denied("kms/generate-mac/a", fmt.Sprint(i)))
	}
	calls, _ = callsOf(t, many.String())
	require.Len(t, calls, 3*maxDenied)
}

// endings says how calls ended, in an order of its own.
func endings(calls []Call) (endings []string) {
	for _, c := range calls {
		endings = append(endings, fmt.Sprintf("%s %t %v", c.CorrelationID, c.Grant, c.Results))
	}
	slices.Sort(endings)
	return endings
}

func TestTable(t *testing.T) {
	text := line("2026-11-24T10:00:00Z", "update", "kms/generate-mac/payments/a", "", `{"key_id":"payments/a","batch_size":3}`) +
		line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/alias/payments/x", "", `{"key_id":"payments/a"}`) +
		line("2026-11-25T11:00:00Z", "update", "kms/verify-mac/payments/a", "", `{"data":{"type":"KMSInvalidMacException"},"error":"hmac-sha256:2"}`) +
		line("2026-11-25T12:00:00Z", "update", "kms/generate-mac/payments-x/a", "", `{}`)
	count := func(f Filter, by string, maxRows int, format string) (string, int) {
		table, err := NewTable(f, strings.Split(by, ","), maxRows)
		require.NoError(t, err)
		r := NewReader("kms", "", table.Add)
		require.NoError(t, r.Read(strings.NewReader(text)))
		r.Close()
		var out bytes.Buffer
		require.NoError(t, table.Write(&out, format))
		return out.String(), table.Others()
	}
	got, others := count(Filter{Key: "payments/"}, "day,key,principal,operation,result", 100, "csv")
	require.Equal(t, `day,key,principal,operation,result,calls,last
2026-11-24,payments/a,e-1,GenerateMac,ok,3,2026-11-24T10:00:00Z
2026-11-25,payments/a,e-1,GenerateMac,ok,1,2026-11-25T10:00:00Z
2026-11-25,payments/a,e-1,VerifyMac,KMSInvalidMacException,1,2026-11-25T11:00:00Z
`, got)
	require.Zero(t, others)
	day := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		filter Filter
		calls  string
	}{
		"since":     {Filter{Since: day}, "3"},
		"until":     {Filter{Until: day}, "3"},
		"window":    {Filter{Since: day.Add(11 * time.Hour), Until: day.Add(12 * time.Hour)}, "1"},
		"key":       {Filter{Key: "payments-x/a"}, "1"},
		"alias":     {Filter{Alias: "payments/"}, "1"},
		"aliased":   {Filter{Alias: "alias/payments/x"}, "1"},
		"principal": {Filter{Principal: "approle/checkout"}, "6"},
		"operation": {Filter{Operation: "VerifyMac"}, "1"},
		"not ok":    {Filter{Result: "!ok"}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := count(test.filter, "client", 100, "csv")
			require.Equal(t, "kms-gateway/v1,"+test.calls, strings.Join(strings.Split(strings.Split(got, "\n")[1], ",")[:2], ","))
		})
	}
	got, _ = count(Filter{}, "key,alias", 100, "table")
	require.Equal(t, `key           alias             calls  last
payments-x/a  -                 1      2026-11-25T12:00:00Z
payments/a    -                 4      2026-11-25T11:00:00Z
payments/a    alias/payments/x  1      2026-11-25T10:00:00Z
`, got)
	got, _ = count(Filter{}, "month", 100, "json")
	require.JSONEq(t, `{"month":"2026-11","calls":6,"last":"2026-11-25T12:00:00Z"}`, got)
	_, others = count(Filter{}, "hour", 1, "csv")
	require.Equal(t, 3, others)
	_, err := NewTable(Filter{}, []string{"tea"}, 1)
	require.ErrorContains(t, err, "month, day, hour")
}

// TestHostileNames: a path is what a caller makes it.
func TestHostileNames(t *testing.T) {
	text := line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/=cmd()\x1b[2J\u202e"+strings.Repeat("x", 10_000), "", `{}`)
	table, err := NewTable(Filter{}, []string{"key", "result"}, 10)
	require.NoError(t, err)
	r := NewReader("kms", "", table.Add)
	require.NoError(t, r.Read(strings.NewReader(text)))
	var out bytes.Buffer
	require.NoError(t, table.Write(&out, "csv"))
	row := strings.Split(out.String(), "\n")[1]
	require.True(t, strings.HasPrefix(row, "'=cmd()?[2J?xxx"), row[:30])
	require.Less(t, len(row), 400)
}

func TestCompressed(t *testing.T) {
	plain := line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/a", "", `{}`)
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, err := io.WriteString(g, plain)
	require.NoError(t, err)
	require.NoError(t, g.Close())
	gz.Write(gz.Bytes()) // appended files are one stream, as gzip has it
	z, err := zstd.NewWriter(&zst)
	require.NoError(t, err)
	_, err = io.WriteString(z, plain)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for _, test := range []struct {
		text  string
		calls int
	}{{plain, 1}, {gz.String(), 2}, {zst.String(), 1}, {"", 0}} {
		calls, stats := callsOf(t, test.text)
		require.Len(t, calls, test.calls)
		require.Zero(t, stats.Unreadable)
	}
	r := NewReader("kms", "", func(Call) {})
	require.Error(t, r.Read(bytes.NewReader(gz.Bytes()[:gz.Len()-10])), "a file that was cut off is not passed over")
}

// TestLongLines: a line that does not fit is counted, and the next one read.
func TestLongLines(t *testing.T) {
	mine := line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/a", "", `{"batch_size":7}`)
	long := strings.Replace(mine, `"batch_size":7`, `"batch_size":7,"x":"`+strings.Repeat("y", 3<<20)+`"`, 1)
	calls, stats := callsOf(t, long+strings.Repeat("z", maxLine+1)+"\n"+mine)
	require.Len(t, calls, 2)
	require.Equal(t, Stats{Lines: 3, Calls: 2, Unreadable: 1}, stats)
}

// TestConstantMemory: what is kept does not depend on how much is read.
func TestConstantMemory(t *testing.T) {
	mine := line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/a", "", `{"key_id":"a"}`)
	table, err := NewTable(Filter{}, []string{"day", "key", "principal", "operation", "result"}, 100)
	require.NoError(t, err)
	r := NewReader("kms", "", table.Add)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	read := func(n int) {
		require.NoError(t, r.Read(io.LimitReader(&endless{text: mine}, int64(n*len(mine)))))
	}
	read(1000)
	before := heap()
	read(100_000) // 45 MB
	require.Less(t, heap(), before+1<<20)
	require.Equal(t, 101_000, r.Close().Calls)
	runtime.KeepAlive(table)
}

// endless repeats a text.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.at:])
	e.at = (e.at + n) % len(e.text)
	return n, nil
}

func BenchmarkRead(b *testing.B) {
	text := strings.Repeat(line("2026-11-25T10:00:00Z", "update", "kms/generate-mac/a", "", `{"key_id":"a"}`), 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		table, _ := NewTable(Filter{}, []string{"day", "key"}, 100)
		if err := NewReader("kms", "", table.Add).Read(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
