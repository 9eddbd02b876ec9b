package gpu

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

const (
	one   = "GPU-5a1c4f8e-0000-1111-2222-333344445555"
	two   = "GPU-7b2d4f8e-0000-1111-2222-333344445555"
	three = "GPU-7b9e4f8e-0000-1111-2222-333344445555"
)

func TestFind(t *testing.T) {
	t.Parallel()
	driver := t.TempDir()
	for bus, id := range map[string]string{"0000:01:00.0": one, "0000:02:00.0": two, "0000:41:00.0": three} {
		if err := os.MkdirAll(filepath.Join(driver, bus), 0o700); err != nil {
			t.Fatal(err)
		}
		text := "Model: \t\t Some GPU\nIRQ:   \t\t 17\nGPU UUID: \t " + id + "\nVideo BIOS: \t 1\n"
		if err := os.WriteFile(filepath.Join(driver, bus, "information"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]struct {
		env  map[string]string
		want []string
	}{
		"all":               {nil, []string{one, two, three}},
		"override":          {map[string]string{Variable: "0, 1,,0"}, []string{"0", "1"}},
		"override by none":  {map[string]string{Variable: ""}, nil},
		"visible by index":  {map[string]string{"CUDA_VISIBLE_DEVICES": "2,0"}, []string{three, one}},
		"visible by prefix": {map[string]string{"CUDA_VISIBLE_DEVICES": "GPU-7b9,GPU-5a"}, []string{three, one}},
		"up to the invalid": {map[string]string{"CUDA_VISIBLE_DEVICES": "1,-1,0"}, []string{two}},
		"none visible":      {map[string]string{"CUDA_VISIBLE_DEVICES": ""}, nil},
		"override wins":     {map[string]string{Variable: "9", "CUDA_VISIBLE_DEVICES": ""}, []string{"9"}},
	}
	for name, c := range cases {
		lookup := func(key string) (string, bool) { v, ok := c.env[key]; return v, ok }
		got, err := Finder{LookupEnv: lookup, Driver: driver}.Find(context.Background())
		if err != nil || !slices.Equal(got.IDs, c.want) || got.Source == "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestParseSMI(t *testing.T) {
	t.Parallel()
	got := parseSMI([]byte("GPU 0: NVIDIA A100-SXM4-40GB (UUID: " + one + ")\n" +
		"  MIG 1g.5gb      Device  0: (UUID: MIG-11111111-2222-3333-4444-555555555555)\nGPU 1: Old card\nno devices\n"))
	if !slices.Equal(got, []string{one, "1"}) {
		t.Errorf("got %q", got)
	}
}

func TestAllocator(t *testing.T) {
	t.Parallel()
	a := New(Inventory{IDs: []string{"0", "1", "2"}})
	first, ok := a.Take("first", 2)
	if !ok || !slices.Equal(first, []string{"0", "1"}) {
		t.Fatalf("got %q, %v", first, ok)
	}
	if again, ok := a.Take("first", 2); !ok || !slices.Equal(again, first) {
		t.Errorf("asked again, it gets %q", again)
	}
	if _, ok := a.Take("second", 2); ok {
		t.Error("two were given, one was free")
	}
	if ids, ok := a.Take("second", 1); !ok || !slices.Equal(ids, []string{"2"}) {
		t.Errorf("got %q, %v", ids, ok)
	}
	if ids, ok := a.Take("third", 0); !ok || ids != nil {
		t.Errorf("none asked: %q, %v", ids, ok)
	}
	if _, ok := a.Take("third", -1); ok {
		t.Error("a negative number was given")
	}
	a.Free("first")
	a.Free("first")
	if ids, ok := a.Take("third", 2); !ok || !slices.Equal(ids, []string{"0", "1"}) {
		t.Errorf("after Free: %q, %v", ids, ok)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	a := New(Inventory{IDs: []string{"0", "1"}})
	if err := a.Hold("live", []string{"1", "unplugged"}); err != nil {
		t.Fatal(err)
	}
	if err := a.Hold("live", []string{"1"}); err != nil {
		t.Error(err)
	}
	if err := a.Hold("other", []string{"0", "1"}); !fault.Is(err, fault.CodeConflict) {
		t.Errorf("held twice: %v", err)
	}
	if ids, ok := a.Take("new", 1); !ok || ids[0] != "0" {
		t.Errorf("got %q", ids)
	}
	if _, ok := a.Take("more", 1); ok {
		t.Error("gave what is held")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	a := New(Inventory{IDs: []string{"0", "1"}})
	if err := a.Check(2); err != nil {
		t.Error(err)
	}
	if err := a.Check(3); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "3 GPUs") || !strings.Contains(err.Error(), "has 2") {
		t.Errorf("got %v", err)
	}
	if err := New(Inventory{Source: "no NVIDIA driver"}).Check(1); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "has none (no NVIDIA driver)") {
		t.Errorf("got %v", err)
	}
}

func TestAllocatorTogether(t *testing.T) {
	t.Parallel()
	a := New(Inventory{IDs: []string{"0", "1", "2", "3"}})
	var wg sync.WaitGroup
	var mu sync.Mutex
	using := map[string]string{}
	for i := range 8 {
		name := string(rune('a' + i))
		wg.Go(func() {
			for range 500 {
				ids, ok := a.Take(name, 1+i%3)
				if !ok {
					continue
				}
				mu.Lock()
				for _, id := range ids {
					if using[id] != "" {
						t.Errorf("%s is given to %s and %s", id, using[id], name)
					}
					using[id] = name
				}
				mu.Unlock()
				runtime.Gosched() // let the others try
				mu.Lock()
				for _, id := range ids {
					delete(using, id)
				}
				mu.Unlock()
				a.Free(name)
			}
		})
	}
	wg.Wait()
}
