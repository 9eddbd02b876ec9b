package env

import (
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

func TestConstraint(t *testing.T) {
	t.Parallel()
	v := func(major, minor, patch int) Version { return Version{Major: major, Minor: minor, Patch: patch} }
	cases := []struct {
		text string
		in   Version
		want bool
	}{
		{"", v(3, 9, 0), true},
		{"3", v(3, 12, 1), true},
		{"3", v(2, 7, 18), false},
		{"3.1", v(3, 11, 0), false},
		{"3.11", v(3, 11, 7), true},
		{"3.11.7", v(3, 11, 7), true},
		{"3.11.7", v(3, 11, 2), false},
		{"3.11.*", v(3, 11, 2), true},
		{"==3.11", v(3, 11, 2), true},
		{">=3.10,<3.13", v(3, 12, 9), true},
		{">=3.10, <3.13", v(3, 13, 0), false},
		{">=3.10,<3.13", v(3, 9, 18), false},
		{"<=3.12", v(3, 12, 1), false},
		{">3.11", v(3, 11, 1), true},
		{"~=3.10", v(3, 13, 0), true},
		{"~=3.10.2", v(3, 11, 0), false},
		{"!=3.11.*,>=3.9", v(3, 11, 3), false},
		{"!=3.11.*,>=3.9", v(3, 12, 3), true},
		{">= 2.7, !=3.0.*, !=3.1.*", v(3, 11, 0), true},
	}
	for _, c := range cases {
		got, err := ParseConstraint(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got.Allows(c.in) != c.want {
			t.Errorf("%q allows %s: %v, want %v", c.text, c.in, !c.want, c.want)
		}
	}
	for _, bad := range []string{"three", "3.x", ">=", "3.11,", "3.11 3.12", "~=3", ">=3.*", "3.11.7.1", "=3.11", "python3.11", "99999999999999999999"} {
		if _, err := ParseConstraint(bad); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q gives %v, want an invalid fault", bad, err)
		}
	}
}

func TestConstraintOfFreeThreadedBuilds(t *testing.T) {
	t.Parallel()
	ordinary := Interpreter{Implementation: "cpython", Version: Version{3, 14, 1, ""}, ABI: "cpython-314-x86_64-linux-gnu/x86_64"}
	free := Interpreter{Implementation: "cpython", Version: Version{3, 14, 1, ""}, ABI: "cpython-314t-x86_64-linux-gnu/x86_64"}
	if ordinary.FreeThreaded() || !free.FreeThreaded() {
		t.Error("the builds are taken for each other")
	}
	for text, want := range map[string][2]bool{
		"": {true, true}, "3.14": {true, true}, ">=3.13": {true, true}, "3.14t": {false, true}, "3.14.1t": {false, true}, "3t": {false, true}, "3.13t": {false, false},
	} {
		c, err := ParseConstraint(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{c.Fits(ordinary), c.Fits(free)}; got != want {
			t.Errorf("%q fits the ordinary and the free-threaded build: %v, want %v", text, got, want)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	t.Parallel()
	sorted := []Version{{3, 9, 18, ""}, {3, 14, 0, "a1"}, {3, 14, 0, "rc1"}, {3, 14, 0, ""}, {3, 14, 1, ""}}
	for i := range sorted {
		for j := range sorted {
			got := sorted[i].Compare(sorted[j])
			if want := compareNumbers([]int{i}, []int{j}); got != want {
				t.Errorf("%s against %s is %d, want %d", sorted[i], sorted[j], got, want)
			}
		}
	}
}

func FuzzParseConstraint(f *testing.F) {
	for _, seed := range []string{"3", "3.11.*", ">=3.10,<3.13", "~=3.10.2", "!=3.0.*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConstraint(text)
		if err == nil {
			c.Allows(Version{Major: 3, Minor: 11, Patch: 7})
		} else if !fault.Is(err, fault.CodeInvalid) {
			t.Fatalf("%q: %v is not an invalid fault", text, err)
		}
	})
}
