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
		"an empty grid":              {document.Object{}, document.Object{"hyperparams": document.Object{"x": []any{}}}, "spec.hyperparams.x"},
		"a number for a list":        {document.Object{}, document.Object{"hyperparams": document.Object{"x": 1}}, "spec.hyperparams.x"},
		"lists of unequal length": {
			document.Object{},
			document.Object{"hyperparams": document.Object{"x": []any{1}, "y": []any{1, 2}}, "hyper_param_options": document.Object{"strategy": "list"}},
			"equally long",
		},
		"a stop condition for a file, which does not compile": {
			document.Object{}, document.Object{"hyper_param_options": document.Object{"param_file": "p.csv", "stop_condition": "acc >"}}, "stop_condition",
		},
		"an unknown option": {document.Object{}, document.Object{"hyper_param_options": document.Object{"stratgy": "grid"}}, "hyper_param_options.stratgy"},
		"no errors at all":  {document.Object{}, document.Object{"hyper_param_options": document.Object{"max_errors": 0}}, "max_errors"},
		"a Dask cluster": {
			document.Object{},
			document.Object{"hyperparams": document.Object{"x": []any{1}}, "hyper_param_options": document.Object{"dask_cluster_uri": "db://p/d"}},
			"dask_cluster_uri",
		},
		"iterations of a program": {
			document.Object{"mode": "pass", "command": "bash {codefile}"}, document.Object{"hyperparams": document.Object{"x": []any{1}}}, "Python",
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
