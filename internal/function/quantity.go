package function

import (
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Names of resources in requests and limits. Every other name that ends in /gpu
// counts as a GPU type too.
const (
	ResourceCPU    = "cpu"
	ResourceMemory = "memory"
	ResourceGPU    = "nvidia.com/gpu"
)

// Resources are quantities made numbers; zero means not given.
type Resources struct {
	CPU     float64 // cores
	Memory  int64   // bytes
	GPUs    int
	GPUType string // the resource's name, such as nvidia.com/gpu; "" without GPUs
}

// ResourceLimits reads Limits; errors carry fault.CodeInvalid and name the field.
func (s Spec) ResourceLimits() (Resources, error) {
	return parseResources("spec.resources.limits", s.Limits)
}

// ResourceRequests reads Requests; errors carry fault.CodeInvalid and name the field.
func (s Spec) ResourceRequests() (Resources, error) {
	return parseResources("spec.resources.requests", s.Requests)
}

func parseResources(field string, quantities map[string]string) (Resources, error) {
	var out Resources
	for _, name := range sortedKeys(quantities) {
		value, at := quantities[name], field+"."+name
		if placeholder(value) {
			continue
		}
		switch amount, err := ParseQuantity(value); {
		case err != nil:
			return Resources{}, fault.Invalid("%s: %w", at, err)
		case name == ResourceCPU:
			out.CPU = amount
		case name == ResourceMemory:
			out.Memory = int64(math.Ceil(min(amount, 1<<62)))
		case strings.HasSuffix(name, "/gpu") || strings.HasSuffix(name, "/gpu.shared"):
			if amount != math.Trunc(amount) || amount > 1024 {
				return Resources{}, fault.Invalid("%s %q is not a whole number of GPUs up to 1024", at, cut(value))
			}
			if out.GPUType != "" {
				return Resources{}, fault.Invalid("%s names a second type of GPU beside %s; use one", at, out.GPUType)
			}
			if amount > 0 {
				out.GPUs, out.GPUType = int(amount), name
			}
		}
	}
	return out, nil
}

// placeholder reports whether a value is filled in by a pipeline later on.
func placeholder(value string) bool {
	return strings.HasPrefix(value, "{{pipelineparam") || strings.HasPrefix(value, "{{channel") || strings.HasPrefix(value, "$(")
}

var quantityPattern = lazyregexp.New(`\A([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([numkKMGTPE]|[KMGTPE]i)?)\z`)

var suffixes = map[string]float64{
	"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
}

// ParseQuantity reads a Kubernetes quantity: "500m", "1.5", "1Gi", "2e3". A
// negative one is refused.
func ParseQuantity(text string) (float64, error) {
	const forms = `use a number with an optional suffix, such as "500m", "2", "512Mi" or "1Gi"`
	parts := quantityPattern.FindStringSubmatch(strings.TrimSpace(text))
	if parts == nil || len(text) > 64 {
		return 0, fault.Invalid("%q is not a quantity; %s", cut(text), forms)
	}
	number, err := strconv.ParseFloat(parts[1]+parts[2], 64)
	if err != nil || math.IsInf(number*suffixes[parts[3]], 0) {
		return 0, fault.Invalid("%q is too large; %s", cut(text), forms)
	}
	if number < 0 {
		return 0, fault.Invalid("%q is negative; %s", cut(text), forms)
	}
	exact := new(big.Float).SetFloat64(number)
	if parts[3] == "m" || parts[3] == "u" || parts[3] == "n" { // divide, so that 100m is 0.1
		return number / math.Round(1/suffixes[parts[3]]), nil
	}
	product, _ := exact.Mul(exact, big.NewFloat(suffixes[parts[3]])).Float64()
	return product, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
