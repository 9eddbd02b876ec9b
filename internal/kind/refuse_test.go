package kind_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
)

// TestMakeRefuses: what cannot be carried out is refused before there is a run,
// with the field's name, and never carried out in part.
func TestMakeRefuses(t *testing.T) {
	t.Parallel()
	code := base64.StdEncoding.EncodeToString([]byte("def f():\n    pass\n"))
	for name, c := range map[string]struct {
		spec document.Object // beside the code
		run  document.Object
		part string
	}{
		"a mode that does not exist": {document.Object{"mode": "fast"}, document.Object{}, "spec.mode"},
		"an iterative task":          {document.Object{}, document.Object{"hyperparams": document.Object{"x": []any{1}}}, "spec.hyperparams"},
		"an iterative task from a file": {
			document.Object{}, document.Object{"hyper_param_options": document.Object{"param_file": "p.csv"}}, "spec.hyperparams",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.spec["build"] = document.Object{"functionSourceCode": code}
			f, err := function.Parse(document.Object{"kind": "job", "metadata": document.Object{"name": "f"}, "spec": c.spec})
			if err == nil {
				_, err = kind.Make(f, document.Object{"spec": c.run})
			}
			if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("error is %v, want an invalid %s", err, c.part)
			}
		})
	}
}
