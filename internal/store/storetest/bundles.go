package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// testBundles: bundles come out as they went in, whole or not at all, and go when nobody
// names them and nobody has asked for them since.
func testBundles(t *testing.T, fresh Fresh) {
	t.Run("come out as they went in", func(t *testing.T) { testBundlesKept(t, fresh) })
}

func testBundlesKept(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	content := map[string][]byte{"none": {}, "small": []byte("x"), "part": bytes.Repeat([]byte("p"), 1<<20), "large": bytes.Repeat([]byte("0123456789"), 250_000)}
	var all sync.WaitGroup
	for name, data := range content {
		for range 2 { // two servers may be sent the same
			all.Go(func() {
				if err := b.BundlePut(b.ctx, name, bytes.NewReader(data)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	all.Wait()
	get := func(name string) ([]byte, error) {
		var out bytes.Buffer
		err := b.BundleGet(b.ctx, name, &out)
		return out.Bytes(), err
	}
	for name, data := range content {
		if got, err := get(name); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(data), err)
		}
	}
	broken := io.MultiReader(bytes.NewReader(content["large"]), iotest.ErrReader(errors.New("cut")))
	if err := b.BundlePut(b.ctx, "broken", broken); err == nil {
		t.Error("a bundle that breaks off is stored")
	}
	if _, err := get("broken"); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("a part of a bundle: %v", err)
	}
	if err := b.BundlePut(b.ctx, "broken", bytes.NewReader(content["large"])); err != nil {
		t.Fatal(err)
	}
	if got, err := get("broken"); err != nil || !bytes.Equal(got, content["large"]) {
		t.Errorf("sent again: %d bytes, %v", len(got), err)
	}
	now := b.clock.Now()
	asked := 0
	named := func() (map[string]bool, error) { asked++; return map[string]bool{"small": true}, nil }
	if n, err := b.BundlePrune(b.ctx, now.Add(-time.Hour), named); n != 0 || err != nil || asked != 0 {
		t.Errorf("nothing is old: %d, %v, asked %d times", n, err, asked)
	}
	if n, err := b.BundlePrune(context.Background(), now.Add(time.Hour), named); n != 4 || err != nil {
		t.Errorf("all are old: %d, %v; want 4", n, err)
	}
	for name := range content {
		if _, err := get(name); (err == nil) != (name == "small") {
			t.Errorf("after that %s: %v", name, err)
		}
	}
}
