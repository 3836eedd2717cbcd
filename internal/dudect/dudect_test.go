package dudect

import "testing"

func TestFindsAnEarlyExit(t *testing.T) {
	leak := EarlyExit(64, 1)
	Finds(t, Runs, leak)
	if differs, value := Differs(Runs, func(int) func() { return leak(1) }); differs {
		t.Errorf("the same work twice has t = %.1f", value)
	}
}

func TestWelch(t *testing.T) {
	// Worked out by hand: means 2 and 4, variances 1 and 1.
	if got := welch([]float64{1, 2, 3}, []float64{3, 4, 5}); got > -2.449 || got < -2.450 {
		t.Errorf("t = %v, want -2.4495", got)
	}
}
