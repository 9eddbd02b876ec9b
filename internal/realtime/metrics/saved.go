package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Saved is what has been counted until a function's process ended, so that the next
// one goes on counting and that somebody can tell meanwhile.
type Saved struct {
	CPU      time.Duration  `json:"cpu"` // of processes that have ended
	Triggers []SavedTrigger `json:"triggers"`
}

// SavedTrigger is what was counted of a trigger.
type SavedTrigger struct {
	Project  string    `json:"project"`
	Function string    `json:"function"`
	Revision int       `json:"revision"`
	Kind     string    `json:"kind"`
	Trigger  string    `json:"trigger"`
	Counters *Counters `json:"counters"`
}

// Save writes into a file, as a whole, what samples have counted.
func Save(path string, samples []Sample, cpu time.Duration) error {
	saved := Saved{CPU: cpu}
	for _, s := range samples {
		saved.Triggers = append(saved.Triggers, SavedTrigger{Project: s.Project, Function: s.Function, Revision: s.Revision, Kind: s.Kind, Trigger: s.Trigger, Counters: s.Counters})
	}
	raw, err := json.Marshal(saved)
	if err != nil {
		return fmt.Errorf("save metrics: %w", err)
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err = os.WriteFile(temp, raw, 0o600); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("save metrics: %w", err)
	}
	return nil
}

// Load reads what Save has written; fs.ErrNotExist if that has never been.
func Load(path string) (Saved, error) {
	var saved Saved
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &saved)
	}
	if err != nil {
		return Saved{}, fmt.Errorf("load metrics: %w", err)
	}
	return saved, nil
}

// Counters returns what was counted of a trigger; nil for nothing.
func (s *Saved) Counters(revision int, trigger string) *Counters {
	for _, one := range s.Triggers {
		if one.Revision == revision && one.Trigger == trigger {
			return one.Counters
		}
	}
	return nil
}

// Samples are those of a function that has no process.
func (s *Saved) Samples() []Sample {
	var out []Sample
	for _, one := range s.Triggers {
		out = append(out, Sample{Project: one.Project, Function: one.Function, Revision: one.Revision, Kind: one.Kind, Trigger: one.Trigger, Counters: one.Counters})
	}
	return out
}

// counted are Counters in a file. What another version has not counted is 0.
type counted struct {
	Succeeded uint64   `json:"succeeded"`
	Failed    uint64   `json:"failed"`
	Refused   uint64   `json:"refused"`
	Restarts  uint64   `json:"restarts"`
	Immediate uint64   `json:"immediate"`
	NoWorker  uint64   `json:"no_worker"`
	Late      uint64   `json:"late"`
	LateNanos uint64   `json:"late_nanos"`
	Nanos     uint64   `json:"nanos"`
	Buckets   []uint64 `json:"buckets"`
	Classes   []uint64 `json:"classes"`
}

// MarshalJSON implements json.Marshaler.
func (c *Counters) MarshalJSON() ([]byte, error) {
	out := counted{
		Succeeded: c.Succeeded.Load(), Failed: c.Failed.Load(), Refused: c.Refused.Load(), Restarts: c.Restarts.Load(), Nanos: c.nanos.Load(),
		Immediate: c.Immediate.Load(), NoWorker: c.NoWorker.Load(), Late: c.late.Load(), LateNanos: c.lateNanos.Load(),
	}
	for i := range c.buckets {
		out.Buckets = append(out.Buckets, c.buckets[i].Load())
	}
	for i := range c.classes {
		out.Classes = append(out.Classes, c.classes[i].Load())
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Counters) UnmarshalJSON(raw []byte) error {
	var in counted
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	c.Succeeded.Store(in.Succeeded)
	c.Failed.Store(in.Failed)
	c.Refused.Store(in.Refused)
	c.Restarts.Store(in.Restarts)
	c.Immediate.Store(in.Immediate)
	c.NoWorker.Store(in.NoWorker)
	c.late.Store(in.Late)
	c.lateNanos.Store(in.LateNanos)
	c.nanos.Store(in.Nanos)
	for i, n := range in.Buckets[:min(len(in.Buckets), len(c.buckets))] {
		c.buckets[i].Store(n)
	}
	for i, n := range in.Classes[:min(len(in.Classes), len(c.classes))] {
		c.classes[i].Store(n)
	}
	return nil
}
