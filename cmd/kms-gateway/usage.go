package main

import (
	"flag"
	"fmt"
	"io"
)

// usageError is a mistake in how a command was called.
type usageError struct {
	command string // the command whose help has the flags
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v (%s -h shows the flags)", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// commandFlags are the flags of a command, in the groups that its help shows.
type commandFlags struct {
	*flag.FlagSet
	about  string    // the help before the flags
	help   io.Writer // where it goes if it is asked for
	groups []flagGroup
}

type flagGroup struct {
	title string
	flags *flag.FlagSet
}

func newCommandFlags(command, about string, help io.Writer) *commandFlags {
	c := &commandFlags{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError), about: about, help: help}
	// Of a mistake, main tells; the flag package would show all flags with it.
	c.SetOutput(io.Discard)
	return c
}

// group adds the flags that the functions register, below a title.
func (c *commandFlags) group(title string, register ...func(*flag.FlagSet)) {
	flags := flag.NewFlagSet(title, flag.ContinueOnError)
	flags.SetOutput(c.help)
	for _, f := range register {
		f(flags)
	}
	flags.VisitAll(func(f *flag.Flag) { c.Var(f.Value, f.Name, f.Usage) })
	c.groups = append(c.groups, flagGroup{title, flags})
}

// parse reads the flags, and refuses more than maxArgs arguments after them. If
// help is asked for it shows that, and the error is flag.ErrHelp.
func (c *commandFlags) parse(args []string, maxArgs int) error {
	err := c.Parse(args)
	switch {
	case err == flag.ErrHelp:
		c.showHelp()
		return err
	case err != nil:
		return c.usage(err)
	case c.NArg() > maxArgs:
		return c.usage(fmt.Errorf("unexpected argument %q", c.Arg(maxArgs)))
	}
	return nil
}

// usage makes an error one of usage; nil stays nil.
func (c *commandFlags) usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{c.Name(), err}
}

func (c *commandFlags) showHelp() {
	fmt.Fprintf(c.help, "%s\n", c.about)
	for _, g := range c.groups {
		fmt.Fprintf(c.help, "\n%s:\n\n", g.title)
		g.flags.PrintDefaults()
	}
}
