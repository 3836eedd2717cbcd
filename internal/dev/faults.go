package dev

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Limits of what [Engine.SetFaults] takes.
const (
	maxFaults  = 100
	maxLatency = 5 * time.Minute
)

// Fault is a failure that calls get instead of their answer, or a delay before
// it.
type Fault struct {
	// Operation is the operation that fails, GenerateMac for example; all of
	// them where it is empty.
	Operation string
	// Error is the exception: ThrottlingException, KMSInternalException,
	// AccessDeniedException or any other. Where it and Status are zero, the
	// call is answered as ever, after Latency.
	Error   string
	Message string // of the exception
	// Status is the HTTP status; KMS's own for the exception where it is zero.
	// Without an Error the answer has no body, like that of a load balancer.
	Status int
	// Latency is how long the answer takes longer.
	Latency time.Duration
	// Times is how many calls meet the fault; zero is all of them, until the
	// faults are set anew.
	Times int
}

func (f *Fault) check() error {
	switch {
	case f.Times < 0:
		return errors.New("times is negative")
	case f.Latency < 0 || f.Latency > maxLatency:
		return fmt.Errorf("latency is not from 0 to %s", maxLatency)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return errors.New("status is not from 400 to 599")
	case f.Error == "" && f.Status == 0 && f.Latency == 0:
		return errors.New("a fault needs an error, a status or a latency")
	}
	if _, ok := kms.Input(f.Operation); !ok && f.Operation != "" {
		return fmt.Errorf("KMS has no operation %q", f.Operation)
	}
	return nil
}

// faults are the faults that are in force.
type faults struct {
	mu   sync.Mutex
	list []Fault
}

// SetFaults puts faults in force, in place of those that were. Each call meets
// the first of them that is about its operation.
func (e *Engine) SetFaults(list ...Fault) error {
	if len(list) > maxFaults {
		return fmt.Errorf("at most %d faults", maxFaults)
	}
	for i, f := range list {
		if err := f.check(); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.list = append([]Fault(nil), list...)
	return nil
}

// Faults returns the faults that are in force, with the times that are left.
func (e *Engine) Faults() []Fault {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	return append([]Fault{}, e.faults.list...)
}

// next returns the fault that a call meets, nil if it meets none, and counts it.
func (f *faults) next(operation string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		if fault.Operation != "" && fault.Operation != operation {
			continue
		}
		switch fault.Times {
		case 0:
		case 1:
			f.list = append(f.list[:i:i], f.list[i+1:]...)
		default:
			f.list[i].Times--
		}
		return &fault
	}
	return nil
}

// before is a handler that lets calls meet the faults before they reach next.
func (f *faults) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
		var fault *Fault
		if isKMS {
			fault = f.next(operation)
		}
		if fault == nil {
			next.ServeHTTP(w, r)
			return
		}
		if fault.Latency > 0 {
			timer := time.NewTimer(fault.Latency)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		}
		if fault.Error == "" && fault.Status == 0 {
			next.ServeHTTP(w, r)
			return
		}
		fault.answer(w)
	})
}

// answer answers a call with the fault.
func (f *Fault) answer(w http.ResponseWriter) {
	exception := &kms.Exception{Type: f.Error, Message: f.Message}
	if f.Error == kms.Throttled().Type && f.Message == "" {
		exception = kms.Throttled()
	}
	status := f.Status
	if status == 0 {
		status = exception.Status()
	}
	var body []byte
	if f.Error != "" {
		_, body = encoded(status, struct {
			Type    string `json:"__type"`
			Message string `json:"message,omitempty"`
		}{exception.Type, exception.Message})
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header()["x-amzn-RequestId"] = []string{uuid.NewString()}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone cannot be told
}
