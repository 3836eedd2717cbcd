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

// crops are the parts of the fastest runs that are looked at, each for itself.
var crops = []float64{0.25, 0.5, 0.75, 0.9}

// runs is enough to see a comparison that ends at the first wrong byte behind
// all else that a request takes.
const runs = 40_000

// T runs one of two functions at a time, chosen at random, and returns the
// largest absolute t-value of their times over all crops.
func T(classes [2]func()) float64 { return Measure(runs, classes) }

// Measure is [T] with another number of runs, for what takes long.
func Measure(runs int, classes [2]func()) float64 {
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
		worst = max(worst, math.Abs(welch(below(times[0], limit), below(times[1], limit))))
	}
	return worst
}

// Differs reports whether the times of two classes differ each time that they
// are measured. One measurement may be spoilt, by a code path that was cold in
// one class, say.
func Differs(classes [2]func()) (differs bool, t float64) {
	for range 3 {
		if t = T(classes); t < Threshold {
			return false, t
		}
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
func SameTime(tb testing.TB, work, leak [2]func()) {
	tb.Helper()
	if differs, t := Differs(work); differs {
		tb.Errorf("the times differ, t = %.1f", t)
	}
	with := func(i int) func() { return func() { work[i](); leak[i]() } }
	for range 3 {
		if T([2]func(){with(0), with(1)}) >= Threshold {
			return
		}
	}
	tb.Error("a planted difference goes unnoticed")
}

// compared makes a planted comparison work that no compiler drops.
var compared atomic.Int64

// EarlyExit compares MACs of which the first or the last byte is wrong, as they
// must not be compared: a leak to plant. A byte takes steps atomic additions,
// some five nanoseconds each; what takes longer itself hides a smaller leak.
func EarlyExit(bytes, steps int) [2]func() {
	right := make([]byte, bytes)
	var compare [2]func()
	for i, position := range []int{0, bytes - 1} {
		wrong := Flipped(right, position)
		compare[i] = func() {
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
	return compare
}

// Flipped returns a copy with one byte changed.
func Flipped(raw []byte, position int) []byte {
	wrong := slices.Clone(raw)
	wrong[position] ^= 0x40
	return wrong
}
