package document_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func TestCanonicalIsPythonsDump(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"b":1,"a":[1.0,1e16,1e-5,0.1,-0,-0.0,1e400,123456789012345678901234567890]}`,
			`{"a": [1.0, 1e+16, 1e-05, 0.1, 0, -0.0, Infinity, 123456789012345678901234567890], "b": 1}`},
		{`"café <b>& \u0007\u007f\ud83d\ude00/"`, `"caf\u00e9 <b>& \u0007\u007f\ud83d\ude00/"`},
		{`[NaN,-Infinity,true,null]`, `[NaN, -Infinity, true, null]`},
		{`[1.5e300,123456789.125,9999999999999998.0,1e22,0.0001]`, `[1.5e+300, 123456789.125, 9999999999999998.0, 1e+22, 0.0001]`},
	} {
		value, err := document.Decode([]byte(c.in))
		if err != nil {
			t.Fatalf("%s: %v", c.in, err)
		}
		if got := string(document.Canonical(value)); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ in, say string }{
		{``, "ends too early"}, {`{`, "key in double quotes"}, {`{"a":1,"a":2}`, `"a" stands twice`},
		{`[1,]`, "unexpected"}, {`01`, "start with 0"}, {`1 2`, "after the document"}, {`"a`, "no end"},
		{`"\x"`, "unknown escape"}, {"\"\x01\"", "control character"}, {"\"\xff\"", "UTF-8"}, {`{"a" 1}`, `after the key "a"`},
		{strings.Repeat("[", 5000), "nested deeper"}, {`nul`, "unexpected"}, {`1.`, "after the point"}, {`{'a':1}`, "double quotes"},
	} {
		_, err := document.Decode([]byte(c.in))
		if !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%.20q: %v, want %q", c.in, err, c.say)
		}
	}
}

func TestEncodeWritesNullForNaN(t *testing.T) {
	got := string(document.Encode(document.Object{"x": math.NaN(), "s": "é\x00\"", "n": json.Number("1.0"), "l": []string{"a"}}))
	if want := `{"l":["a"],"n":1.0,"s":"é\u0000\"","x":null}`; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

func TestSetPath(t *testing.T) {
	o := document.Object{"status": document.Object{"results": document.Object{"old": true}}}
	document.SetPath(o, `status.results`, document.Object{})
	document.SetPath(o, `metadata.labels.\mlrun/a.b\.c`, "x")
	if got, want := string(document.Encode(o)), `{"metadata":{"labels":{"mlrun/a.b":{"c":"x"}}},"status":{"results":{}}}`; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

func TestParseTime(t *testing.T) {
	for _, s := range []string{"2024-10-23T08:15:52.123456+00:00", "2024-10-23 08:15:52.123456", "2024-10-23T10:15:52.123456+02:00", "2024-10-23T08:15:52.123456Z"} {
		at, err := document.ParseTime(s)
		if err != nil || document.Time(at) != "2024-10-23T08:15:52.123456+00:00" {
			t.Errorf("%s: %v %v", s, at, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x",null,true]}`, `"\ud800\udc00\ud800"`, `[NaN]`, `{"a":{}}`, `-1e-7`, "\"\xc3\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := document.Decode(data)
		if err != nil {
			if !fault.Is(err, fault.CodeInvalid) {
				t.Fatalf("not the caller's fault: %v", err)
			}
			return
		}
		again, err := document.Decode(document.Encode(value))
		if err != nil {
			t.Fatalf("cannot read what was written: %v", err)
		}
		if string(document.Encode(again)) != string(document.Encode(value)) {
			t.Fatal("writing twice differs")
		}
		var std any
		decoder := json.NewDecoder(strings.NewReader(string(data)))
		decoder.UseNumber()
		if decoder.Decode(&std) == nil && !strings.Contains(string(data), "NaN") && !strings.Contains(string(data), "Inf") && !reflect.DeepEqual(std, value) {
			t.Fatalf("encoding/json reads %v, we read %v", std, value)
		}
	})
}

func TestCloneOfNothing(t *testing.T) {
	t.Parallel()
	if got := document.Clone[any](nil); got != nil {
		t.Errorf("the clone of nil is %v", got)
	}
	list := []any{nil, document.Object{"a": nil}}
	if got := document.Clone[any](list); !reflect.DeepEqual(got, any(list)) {
		t.Errorf("the clone of %v is %v", list, got)
	}
}
