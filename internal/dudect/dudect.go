// Package dudect tells whether the time that code takes depends on a secret, by
// the method of "Dude, is my code constant time?" (Reparaz, Balasch and
// Verbauwhede, 2017): run it with inputs of two classes in random order, crop
// the slow runs, which the rest of the machine is to blame for, and see with
// Welch's t-test whether the two classes differ.
package dudect

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// Threshold is the t-value beyond which there is no doubt that times differ.
// The paper takes 4.5 for a hint and 10 for certainty; noise of the machine hits
// both classes alike, so load makes a difference harder to see, not likelier.
const Threshold = 10

// agreeing is how many measurements in a row must find the same class slower.
const agreeing = 4

// crops are the parts of the fastest runs that are looked at, each for itself.
var crops = []float64{0.25, 0.5, 0.75, 0.9}

// Runs is enough to see a comparison that ends at the first wrong byte behind
// all else that a request takes.
const Runs = 40_000

// Work returns what is to be timed of a class, 0 or 1. It is called again for
// each measurement and is to make anew what the two classes differ in.
type Work func(class int) func()

// Measure runs one of the two classes at a time, chosen at random, and returns
// the t-value of their times that is the largest of all crops. It is positive
// where class 0 is the slower one.
func Measure(runs int, work Work) float64 {
	// Where in memory things lie is worth a fraction of a nanosecond, which a
	// busy machine makes more of and the test finds. So neither class is always
	// made first.
	var classes [2]func()
	first := rand.IntN(2)
	classes[first] = work(first)
	classes[1-first] = work(1 - first)

	var times [2][]float64
	for range runs / 100 {
		classes[0]()
		classes[1]()
	}
	all := make([]float64, 0, runs)
	for range runs {
		class := rand.IntN(2)
		start := time.Now()
		classes[class]()
		took := float64(time.Since(start))
		times[class] = append(times[class], took)
		all = append(all, took)
	}
	slices.Sort(all)
	worst := 0.0
	for _, crop := range crops {
		limit := all[int(crop*float64(len(all)-1))]
		if t := welch(below(times[0], limit), below(times[1], limit)); math.Abs(t) > math.Abs(worst) {
			worst = t
		}
	}
	return worst
}

// Differs reports whether the times of two classes differ each time that they
// are measured, in the same direction. A difference that comes of where things
// lie in memory has another one, or none, when they are made anew; what comes
// of their contents stays.
func Differs(runs int, work Work) (differs bool, t float64) {
	slower := 0.0
	for range agreeing {
		t = Measure(runs, work)
		if math.Abs(t) < Threshold || t*slower < 0 {
			return false, t
		}
		slower = t
	}
	return true, t
}

func below(times []float64, limit float64) []float64 {
	return slices.DeleteFunc(slices.Clone(times), func(t float64) bool { return t > limit })
}

// welch returns the t-value of two samples.
func welch(a, b []float64) float64 {
	if len(a) < 2 || len(b) < 2 {
		return 0
	}
	meanA, varA := moments(a)
	meanB, varB := moments(b)
	spread := math.Sqrt(varA/float64(len(a)) + varB/float64(len(b)))
	if spread == 0 {
		return 0
	}
	return (meanA - meanB) / spread
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(len(x)-1)
}

// SameTime expects that two pieces of work take the same time, and that it would
// be noticed if they did not: with a leak, which differs, after each.
func SameTime(tb testing.TB, work, leak Work) {
	tb.Helper()
	if differs, t := Differs(Runs, work); differs {
		tb.Errorf("the times differ, t = %.1f", t)
	}
	Finds(tb, Runs, func(class int) func() {
		work, leak := work(class), leak(class)
		return func() { work(); leak() }
	})
}

// Finds expects that a planted difference is found. One measurement in many may
// be spoilt.
func Finds(tb testing.TB, runs int, planted Work) {
	tb.Helper()
	var t float64
	for range 3 {
		var differs bool
		if differs, t = Differs(runs, planted); differs {
			return
		}
	}
	tb.Errorf("a planted difference goes unnoticed, t = %.1f", t)
}

// compared makes a planted comparison work that no compiler drops.
var compared atomic.Int64

// EarlyExit compares MACs of which the first or the last byte is wrong, as they
// must not be compared: a leak to plant. A byte takes steps atomic additions,
// some five nanoseconds each; what takes longer itself hides a smaller leak.
func EarlyExit(bytes, steps int) Work {
	right := make([]byte, bytes)
	return func(class int) func() {
		wrong := Flipped(right, class*(bytes-1))
		return func() {
			for i := range right {
				for range steps {
					compared.Add(1)
				}
				if right[i] != wrong[i] {
					return
				}
			}
		}
	}
}

// Flipped returns a copy with one byte changed.
func Flipped(raw []byte, position int) []byte {
	wrong := slices.Clone(raw)
	wrong[position] ^= 0x40
	return wrong
}
