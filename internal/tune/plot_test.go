package tune

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/millrace/millrace/internal/document"
)

func data(t *testing.T, page []byte) document.Object {
	t.Helper()
	match := regexp.MustCompile(`(?s)id="table">(.*?)</script>`).FindSubmatch(page)
	if match == nil {
		t.Fatal("the page has no table")
	}
	object, err := document.DecodeObject(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestParallelCoordinatesOpensOffline(t *testing.T) {
	table := NewTable([]Row{{Iter: 1, State: "completed", Parameters: Point{[]string{"p"}, []any{"</script><script>alert(1)//<!--"}}, Results: document.Object{"acc": json.Number("1")}}})
	page := table.ParallelCoordinates(Selector{"acc", false}, 1)
	if regexp.MustCompile(`(src|href)=|@import|url\(|fetch\(`).Match(page) {
		t.Error("the page loads something")
	}
	if bytes.Contains(page, []byte("<script>alert")) || bytes.Contains(page, []byte("<!--")) {
		t.Error("a value ends the script")
	}
	if got := document.List(data(t, page), "rows")[0].([]any)[2]; got != "</script><script>alert(1)//<!--" {
		t.Errorf("the value is %q", got)
	}
}

func TestParallelCoordinatesDrawsTheBestOfMany(t *testing.T) {
	rows := make([]Row, 100_000)
	for i := range rows {
		rows[i] = Row{Iter: i + 1, State: "completed", Parameters: Point{[]string{"p"}, []any{i}}}
	}
	d := data(t, NewTable(rows).ParallelCoordinates(Selector{}, 77_777))
	list := document.List(d, "rows")
	if len(list) < drawnIterations || len(list) > drawnIterations+1 {
		t.Errorf("%d rows", len(list))
	}
	found := false
	for _, row := range list {
		iter, _ := document.ToInt(row.([]any)[1])
		found = found || iter == 77_777
	}
	if !found {
		t.Error("the best is not drawn")
	}
	if total, _ := document.Int(d, "total"); total != 100_000 {
		t.Errorf("total %d", total)
	}
}
