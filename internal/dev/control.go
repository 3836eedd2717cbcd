package dev

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// controlPrefix begins the paths of the control. They take no POST, so a
// folder of this name is KMS's all the same; and no browser sends what changes
// something, PUT or DELETE, for the page of another site.
const controlPrefix = "/dev/"

// maxControl is the most bytes of a control request's body.
const maxControl = 4 << 20

func isControl(r *http.Request) bool {
	return r.Method != http.MethodPost && strings.HasPrefix(r.URL.Path, controlPrefix)
}

// control serves the control paths:
//
//	GET /dev/clock              {"now": "2026-01-02T03:04:05Z", "fixed": true}
//	PUT /dev/clock              {"now": "2026-01-02T03:04:05Z"} or {"advance": "168h"}
//	DELETE /dev/clock           the machine's time again
//	PUT /dev/keys               a Seed; answers {"key_ids": [...]}
//	DELETE /dev/keys            forgets all keys, aliases and grants
//	GET, PUT, DELETE /dev/faults {"faults": [{"operation": "GenerateMac", "error": "ThrottlingException", "times": 2}]}
func (e *Engine) control() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxControl)
			answer, err := f(r)
			status := http.StatusOK
			if err != nil {
				status, answer = http.StatusBadRequest, map[string]string{"error": err.Error()}
			}
			status, body := encoded(status, answer)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write(append(body, '\n')) // a client that has gone cannot be told
		})
	}
	handle("GET /dev/clock", e.getClock)
	handle("PUT /dev/clock", e.putClock)
	handle("DELETE /dev/clock", func(r *http.Request) (any, error) {
		e.Clock.Reset()
		return e.getClock(r)
	})
	handle("PUT /dev/keys", func(r *http.Request) (any, error) {
		seed, err := ReadSeed(r.Body)
		if err != nil {
			return nil, err
		}
		ids, err := e.Seed(r.Context(), seed)
		return map[string][]string{"key_ids": ids}, err
	})
	handle("DELETE /dev/keys", func(*http.Request) (any, error) { return struct{}{}, e.Reset() })
	handle("GET /dev/faults", e.getFaults)
	handle("PUT /dev/faults", e.putFaults)
	handle("DELETE /dev/faults", func(r *http.Request) (any, error) {
		if err := e.SetFaults(); err != nil {
			return nil, err
		}
		return e.getFaults(r)
	})
	return mux
}

// ReadSeed reads a seed as JSON. What it does not know it refuses.
func ReadSeed(r io.Reader) (seed Seed, err error) { return seed, decode(r, &seed) }

// decode decodes one JSON object, and no more, that has no unknown members.
func decode(r io.Reader, out any) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one JSON value")
	}
	return nil
}

func (e *Engine) getClock(*http.Request) (any, error) {
	return map[string]any{"now": e.Clock.Now().UTC().Format(time.RFC3339Nano), "fixed": e.Clock.Fixed()}, nil
}

func (e *Engine) putClock(r *http.Request) (any, error) {
	var in struct {
		Now     *time.Time `json:"now"`
		Advance *duration  `json:"advance"`
	}
	if err := decode(r.Body, &in); err != nil {
		return nil, err
	}
	var err error
	switch {
	case (in.Now == nil) == (in.Advance == nil):
		err = errors.New("either now or advance is needed")
	case in.Now != nil:
		err = e.SetTime(r.Context(), *in.Now)
	default:
		err = e.Advance(r.Context(), time.Duration(*in.Advance))
	}
	if err != nil {
		return nil, err
	}
	return e.getClock(r)
}

func (e *Engine) getFaults(*http.Request) (any, error) {
	list := []wireFault{}
	for _, f := range e.Faults() {
		list = append(list, wireFault{f.Operation, f.Error, f.Message, f.Status, duration(f.Latency), f.Times})
	}
	return map[string]any{"faults": list}, nil
}

func (e *Engine) putFaults(r *http.Request) (any, error) {
	var in struct {
		Faults []wireFault `json:"faults"`
	}
	if err := decode(r.Body, &in); err != nil {
		return nil, err
	}
	list := make([]Fault, len(in.Faults))
	for i, f := range in.Faults {
		list[i] = Fault{f.Operation, f.Error, f.Message, f.Status, time.Duration(f.Latency), f.Times}
	}
	if err := e.SetFaults(list...); err != nil {
		return nil, err
	}
	return e.getFaults(r)
}

// wireFault is a [Fault] as JSON.
type wireFault struct {
	Operation string   `json:"operation,omitempty"`
	Error     string   `json:"error,omitempty"`
	Message   string   `json:"message,omitempty"`
	Status    int      `json:"status,omitempty"`
	Latency   duration `json:"latency,omitzero"`
	Times     int      `json:"times,omitempty"`
}

// duration is a duration as JSON: text as Go writes it, 168h or 250ms.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}
