package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/store/storetest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t testing.TB) store.Options {
		return store.Options{Path: filepath.Join(t.TempDir(), "millrace.db")}
	})
}

var databases atomic.Int64

func TestPostgres(t *testing.T) {
	t.Parallel()
	server, err := storetest.StartPostgres(t.Context())
	storetest.Require(t, err)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	storetest.Run(t, func(t testing.TB) store.Options {
		url, drop, err := server.Database(context.WithoutCancel(t.Context()), fmt.Sprintf("millrace_test_%d_%d", os.Getpid(), databases.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := drop(); err != nil {
				t.Error(err)
			}
		})
		return store.Options{DatabaseURL: url}
	})
}
