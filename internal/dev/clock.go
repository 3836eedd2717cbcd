package dev

import (
	"errors"
	"sync"
	"time"
)

// The years that a clock can show: dates that are computed from it, at most a
// few years later, can still be written as RFC 3339.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9900, 1, 1, 0, 0, 0, 0, time.UTC)
)

var errClockRange = errors.New("the clock shows years from 1970 to 9899 only")

// Clock is the time of an [Engine]. The zero value is the machine's, which
// goes on by itself. A clock that has been set stands still. It is safe for
// concurrent use.
type Clock struct {
	mu    sync.Mutex
	at    time.Time // what it shows, or has shown at since; zero is the machine's time
	since time.Time // zero if it stands still
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time {
	switch {
	case c.at.IsZero():
		return time.Now()
	case c.since.IsZero():
		return c.at
	}
	return c.at.Add(time.Since(c.since))
}

// Fixed reports whether the clock stands still.
func (c *Clock) Fixed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fixed()
}

func (c *Clock) fixed() bool { return !c.at.IsZero() && c.since.IsZero() }

// Set sets the clock to a time, at which it then stands still.
func (c *Clock) Set(t time.Time) error {
	if !shown(t) {
		return errClockRange
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.since = t, time.Time{}
	return nil
}

// Advance moves the clock, forward or back. One that goes on by itself goes on
// from there.
func (c *Clock) Advance(d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.now().Add(d).Round(0) // without the machine's monotonic clock
	if !shown(t) {
		return errClockRange
	}
	if !c.fixed() {
		c.since = time.Now()
	}
	c.at = t
	return nil
}

// Reset makes the clock the machine's again.
func (c *Clock) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.since = time.Time{}, time.Time{}
}

func shown(t time.Time) bool { return !t.Before(earliest) && t.Before(latest) }
