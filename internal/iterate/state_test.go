package iterate_test

import (
	"encoding/json"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// stateOf reads a state from its JSON form.
func stateOf(t *testing.T, doc document.Object) tune.State {
	t.Helper()
	var st tune.State
	if err := json.Unmarshal(document.Encode(doc), &st); err != nil {
		t.Fatal(err)
	}
	return st
}
