package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/auditlog"
)

// auditOptions are the flags of "kms-gateway audit".
type auditOptions struct {
	mount, namespace string
	filter           auditlog.Filter
	by, format       string
	maxRows          int
	files            []string
	table            *auditlog.Table
}

const auditHelp = `kms-gateway audit counts who used which key, from the audit logs of Vault.

  kms-gateway audit [flags] [file ...]

Without a file it reads standard input. Files may be compressed with gzip, bzip2 or zstd; give rotated ones oldest first.

  kms-gateway audit -key payments/ -since 24h audit.log`

func auditFlags(o *auditOptions, help io.Writer) *commandFlags {
	flags := newCommandFlags("kms-gateway audit", auditHelp, help)
	flags.group("What to read", o.registerWhat)
	flags.group("What to count", o.registerFilter)
	flags.group("Output", o.registerOutput)
	return flags
}

func parseAudit(args []string, stdout io.Writer) (*auditOptions, error) {
	var o auditOptions
	flags := auditFlags(&o, stdout)
	if err := flags.parse(args, math.MaxInt); err != nil {
		return nil, err
	}
	if o.files = flags.Args(); len(o.files) == 0 {
		o.files = []string{"-"}
	}
	if !slices.Contains(auditlog.Formats, o.format) {
		return nil, flags.usage(fmt.Errorf("%q is no format; there are %s", o.format, strings.Join(auditlog.Formats, ", ")))
	}
	table, err := auditlog.NewTable(o.filter, strings.Split(o.by, ","), o.maxRows)
	o.table = table
	return &o, flags.usage(err)
}

func (o *auditOptions) registerWhat(f *flag.FlagSet) {
	f.StringVar(&o.mount, "mount", "kms", "`path` of the mount")
	f.StringVar(&o.namespace, "namespace", "", "only this `namespace` of Vault; all if empty")
}

func (o *auditOptions) registerFilter(f *flag.FlagSet) {
	now := time.Now()
	f.Func("since", "only from this `time` on: 2026-11-25, 2026-11-25T10:00:00Z, or 24h for the last 24 hours", timeFlag(&o.filter.Since, now))
	f.Func("until", "only before this `time`", timeFlag(&o.filter.Until, now))
	f.StringVar(&o.filter.Key, "key", "", "only this `key`, or with a slash at the end this folder")
	f.StringVar(&o.filter.Alias, "alias", "", "only by this `alias`, or with a slash at the end by those of this folder")
	f.StringVar(&o.filter.Principal, "principal", "", "only this `principal`: the id of an entity or the name of a token")
	f.StringVar(&o.filter.Operation, "operation", "", "only this `operation`, as KMS calls it")
	f.StringVar(&o.filter.Result, "result", "", "only this `result`: ok, denied, an exception's type, ...; with ! all but it")
}

func (o *auditOptions) registerOutput(f *flag.FlagSet) {
	f.StringVar(&o.by, "by", "day,key,principal,operation,result", "`columns` to count by, of "+strings.Join(auditlog.Columns(), ", "))
	f.StringVar(&o.format, "format", "table", "`format` of the output: "+strings.Join(auditlog.Formats, ", "))
	f.IntVar(&o.maxRows, "max-rows", 100_000, "most `rows`; what is beyond is counted as one number")
}

// timeFlag reads a day, a time, or a duration before now.
func timeFlag(to *time.Time, now time.Time) func(string) error {
	return func(text string) error {
		if ago, err := time.ParseDuration(text); err == nil {
			*to = now.Add(-ago)
			return nil
		}
		for _, layout := range []string{time.DateOnly, time.RFC3339} {
			if at, err := time.Parse(layout, text); err == nil {
				*to = at
				return nil
			}
		}
		return errors.New("neither a day, a time nor a duration")
	}
}

// audit prints what the audit log tells about the use of keys.
func audit(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parseAudit(args, stdout)
	if err != nil {
		return err
	}
	reader := auditlog.NewReader(o.mount, o.namespace, o.table.Add)
	for _, name := range o.files {
		if err := readAudit(reader, name, stdin, stderr); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	stats := reader.Close()
	if err := o.table.Write(stdout, o.format); err != nil {
		return err
	}
	tellAudit(stats, o.table.Others(), stderr)
	return nil
}

func readAudit(reader *auditlog.Reader, name string, stdin io.Reader, stderr io.Writer) error {
	if name == "-" {
		if isTerminal(stdin) {
			fmt.Fprintln(stderr, "kms-gateway audit: reading the audit log from the terminal; a file can be given as an argument")
		}
		return reader.Read(stdin)
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return reader.Read(file)
}

func isTerminal(r io.Reader) bool {
	file, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// tellAudit says what the table does not show.
func tellAudit(stats auditlog.Stats, others int, stderr io.Writer) {
	for _, remark := range []struct {
		count int
		text  string
	}{
		{stats.Unreadable, "lines could not be read"},
		{stats.Hashed, "requests are without their key, because the audit log has its hash: see -audit-non-hmac-response-keys=key_id"},
		{others, "calls are not in the table: raise -max-rows, or count by fewer columns"},
	} {
		if remark.count > 0 {
			fmt.Fprintf(stderr, "kms-gateway audit: %d %s\n", remark.count, remark.text)
		}
	}
	if stats.Calls == 0 {
		fmt.Fprintf(stderr, "kms-gateway audit: none of %d lines is an answer of the mount\n", stats.Lines)
	}
}
