// Package gpu knows the GPUs of this machine and hands them out to executions.
//
// Devices are named by what CUDA_VISIBLE_DEVICES takes: the UUID where the
// driver tells it, else the index. The allocator keeps its state in memory; what
// live executions hold is written down with them, so after a restart Hold brings
// it back.
package gpu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/lazyregexp"
)

// Variable overrides the inventory: a comma-separated list of ids, empty for
// none.
const Variable = "MILLRACE_GPUS"

// Inventory is the GPUs that executions may be given.
type Inventory struct {
	IDs []string
	// Source says how they were found, for people.
	Source string
}

// Finder looks for GPUs. The zero value looks at this machine.
type Finder struct {
	// LookupEnv nil means os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// Driver is the folder where the NVIDIA driver describes each GPU; empty means
	// /proc/driver/nvidia/gpus.
	Driver string
}

// Find returns the GPUs of this machine; see Finder.Find.
func Find(ctx context.Context) Inventory {
	inventory, err := Finder{}.Find(ctx)
	if err != nil {
		return Inventory{Source: err.Error()}
	}
	return inventory
}

// smiTimeout bounds nvidia-smi, which hangs when a device does.
const smiTimeout = 10 * time.Second

// Find returns the ids of MILLRACE_GPUS if that is set; else those that the
// NVIDIA driver or nvidia-smi lists, as far as CUDA_VISIBLE_DEVICES of this
// process lets them be seen. A machine without a driver has none, which is no
// error; a driver that does not answer is one.
func (f Finder) Find(ctx context.Context) (Inventory, error) {
	lookup := f.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	if list, ok := lookup(Variable); ok {
		return Inventory{IDs: split(list), Source: Variable}, nil
	}
	found, err := f.machine(ctx)
	if err != nil {
		return Inventory{}, err
	}
	if list, ok := lookup("CUDA_VISIBLE_DEVICES"); ok && len(found.IDs) > 0 {
		return Inventory{IDs: visible(found.IDs, list), Source: found.Source + ", CUDA_VISIBLE_DEVICES"}, nil
	}
	return found, nil
}

func split(list string) []string {
	var out []string
	for id := range strings.SplitSeq(list, ",") {
		if id = strings.TrimSpace(id); id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// visible applies CUDA's rule: entries count up to the first that is no device.
func visible(ids []string, list string) []string {
	var out []string
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		at := slices.IndexFunc(ids, func(id string) bool { return len(entry) > 4 && strings.HasPrefix(id, entry) })
		if n, err := strconv.Atoi(entry); err == nil && n >= 0 && n < len(ids) {
			at = n
		}
		if at < 0 {
			break
		}
		if !slices.Contains(out, ids[at]) {
			out = append(out, ids[at])
		}
	}
	return out
}

var gpuUUID = lazyregexp.New(`GPU-[0-9a-fA-F-]{8,}`)

func (f Finder) machine(ctx context.Context) (Inventory, error) {
	driver := f.Driver
	if driver == "" {
		driver = "/proc/driver/nvidia/gpus"
	}
	files, err := filepath.Glob(filepath.Join(driver, "*", "information"))
	if err != nil {
		return Inventory{}, fmt.Errorf("find GPUs: %w", err)
	}
	slices.Sort(files) // by bus address, as nvidia-smi counts
	var ids []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return Inventory{}, fmt.Errorf("find GPUs: %w", err)
		}
		if id := gpuUUID.Find(data); id != nil {
			ids = append(ids, string(id))
		}
	}
	if len(ids) > 0 && len(ids) == len(files) {
		return Inventory{IDs: ids, Source: "NVIDIA driver"}, nil
	}
	return f.smi(ctx)
}

var smiLine = lazyregexp.New(`^GPU (\d+): .*?(?:\(UUID: (GPU-[^)\s]+)\))?$`)

func (f Finder) smi(ctx context.Context) (Inventory, error) {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return Inventory{Source: "no NVIDIA driver"}, nil //nolint:nilerr // most machines have none
	}
	ctx, cancel := context.WithTimeoutCause(ctx, smiTimeout, fmt.Errorf("nvidia-smi did not answer within %s", smiTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-L")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return Inventory{}, fmt.Errorf("find GPUs: %w", context.Cause(ctx))
	}
	if err != nil {
		detail := strings.TrimSpace(string(out))
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && detail == "" {
			detail = strings.TrimSpace(string(exit.Stderr))
		}
		return Inventory{}, fmt.Errorf("find GPUs: nvidia-smi: %w: %s", err, detail)
	}
	return Inventory{IDs: parseSMI(out), Source: "nvidia-smi"}, nil
}

// parseSMI reads the list of nvidia-smi -L; partitions of a GPU are left to it.
func parseSMI(out []byte) []string {
	var ids []string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		m := smiLine.FindStringSubmatch(strings.TrimRight(lines.Text(), " \r"))
		switch {
		case m == nil:
		case m[2] != "":
			ids = append(ids, m[2])
		default:
			ids = append(ids, m[1])
		}
	}
	return ids
}
