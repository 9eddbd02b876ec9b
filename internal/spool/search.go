package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// Search is what an iterative task needs beside what every run has. The options
// and the values given directly are in the run document.
type Search struct {
	Names []string    `json:"names,omitempty"` // of the parameters, in the order in which they were written
	File  string      `json:"file,omitempty"`  // the content of the parameter file, relative to the spool; "" without one
	Seed  uint64      `json:"seed"`            // used unless the options have one
	State *tune.State `json:"state,omitempty"` // what to continue from; nil in the first attempt
	// Changed is what steering has made of the options so far.
	Changed document.Object `json:"changed,omitempty"`
	// Ended has one line for each iteration that ended in an earlier attempt, by
	// their numbers: {iter, state, parameters, results, reports}. "" for none.
	Ended string `json:"ended,omitempty"`
}

// ParameterFile is where the content of a task's parameter file is kept.
const ParameterFile = "parameters"

// ReasonIterations is the reason of an outcome when iterations have failed.
const ReasonIterations = "iterations"

// SteerFile holds the changes that are wanted of a task while it runs, one JSON
// object a line.
const SteerFile = "steer"

// Steer appends a change for the runner, durably. An error that wraps
// fs.ErrNotExist says that there is no spool.
func (d Dir) Steer(change tune.Steering) error {
	file, err := os.OpenFile(d.file(SteerFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	_, err = file.Write(append(document.Encode(change.Document()), '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	return nil
}

// Steering returns the changes from byte offset on, and the offset behind them.
func (d Dir) Steering(offset int64) ([]tune.Steering, int64, error) {
	raw, err := os.ReadFile(d.file(SteerFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && int64(len(raw)) <= offset {
		return nil, offset, nil
	}
	if err != nil {
		return nil, offset, fmt.Errorf("read steering: %w", err)
	}
	raw = raw[offset:]
	raw = raw[:bytes.LastIndexByte(raw, '\n')+1]
	var out []tune.Steering
	for line := range bytes.Lines(raw) {
		doc, err := document.DecodeObject(line)
		if err != nil {
			return out, offset, fmt.Errorf("read steering: %w", err)
		}
		change, err := tune.ParseSteering(doc)
		if err != nil {
			return out, offset, fmt.Errorf("read steering: %w", err)
		}
		out = append(out, change)
	}
	return out, offset + int64(len(raw)), nil
}
