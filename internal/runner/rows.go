package runner

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// rows are the iterations of a task that ended, in this attempt and those before,
// where they stand in the files that tell of them. In memory is only where.
type rows struct {
	files []*os.File
	index []place // by iteration
	order []string
	base  document.Object
	line  []byte
}

// place is a line of a file.
type place struct {
	iter, file int32
	length     int32
	offset     int64
}

// openRows finds the iterations.
func (r *runner) openRows() (*rows, error) {
	base := document.Map(r.launch.Run, "spec", "parameters")
	found := &rows{base: base, order: slices.Sorted(maps.Keys(base))}
	for _, name := range r.order {
		if !slices.Contains(found.order, name) {
			found.order = append(found.order, name)
		}
	}
	names := []string{"journal"}
	if ended := r.launch.Search.Ended; ended != "" {
		names = append(names, ended)
	}
	for _, name := range names {
		if err := found.add(filepath.Join(r.dir.Path, name), name == "journal"); err != nil {
			found.close()
			return nil, fmt.Errorf("read the iterations that ended: %w", err)
		}
	}
	slices.SortFunc(found.index, func(a, b place) int { return cmp.Compare(a.iter, b.iter) })
	return found, nil
}

// add finds the iterations in a file; a journal has other records as well.
func (r *rows) add(path string, journal bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	r.files = append(r.files, file)
	reader := bufio.NewReaderSize(file, 256<<10)
	at := place{file: int32(len(r.files) - 1)}
	var long []byte
	for {
		line, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil // what follows the last end of line was not written whole
		}
		if err != nil {
			return err
		}
		if len(long) > 0 {
			line = append(long, line...)
		}
		at.length = int32(len(line))
		if !journal || bytes.Contains(line, []byte(`"t":"child"`)) {
			body, err := document.DecodeObject(line)
			if err != nil {
				return err
			}
			iter, _ := document.Int(body, "iter")
			if !journal || document.String(body, "t") == "child" && document.String(body, "state") != "running" {
				at.iter = int32(iter)
				r.index = append(r.index, at)
			}
		}
		at.offset += int64(at.length)
		long = long[:0]
	}
}

// each yields the iterations by their numbers.
func (r *rows) each(yield func(tune.Row) error) error {
	for _, at := range r.index {
		r.line = slices.Grow(r.line[:0], int(at.length))[:at.length]
		if _, err := r.files[at.file].ReadAt(r.line, at.offset); err != nil {
			return err
		}
		body, err := document.DecodeObject(r.line)
		if err != nil {
			return err
		}
		parameters := maps.Clone(r.base)
		if parameters == nil {
			parameters = document.Object{}
		}
		maps.Copy(parameters, document.Map(body, "parameters"))
		if err := yield(tune.Row{
			Iter: int(at.iter), State: document.String(body, "state"), Parameters: tune.PointOf(parameters, r.order), Results: document.Map(body, "results"),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) close() {
	for _, file := range r.files {
		file.Close()
	}
}
