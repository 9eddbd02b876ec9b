package trace

import (
	"log/slog"
	"net/url"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Attribute describes where spans come from.
type Attribute struct{ Key, Value string }

// Config says where spans go. The zero Config is no tracing.
type Config struct {
	Endpoint string // URL of the collector's traces
	Headers  [][2]string
	Resource []Attribute
	Ratio    float64 // of traces that begin here, from 0 to 1
	Logger   *slog.Logger
}

// FromEnvironment reads the variables of OpenTelemetry from KEY=VALUE entries, of
// which later ones count, and describes the function by defaults where they do not.
// Without an endpoint the Config is zero. Errors are fault.CodeInvalid.
func FromEnvironment(env []string, service string, defaults []Attribute, logger *slog.Logger) (Config, error) {
	values := map[string]string{}
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, "OTEL_") {
			values[name] = strings.TrimSpace(value)
		}
	}
	either := func(suffix string) string {
		if value := values["OTEL_EXPORTER_OTLP_TRACES_"+suffix]; value != "" {
			return value
		}
		return values["OTEL_EXPORTER_OTLP_"+suffix]
	}
	c := Config{Endpoint: values["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], Ratio: 1, Logger: logger}
	if base := values["OTEL_EXPORTER_OTLP_ENDPOINT"]; c.Endpoint == "" && base != "" {
		c.Endpoint = strings.TrimSuffix(base, "/") + "/v1/traces"
	}
	if c.Endpoint == "" || strings.EqualFold(values["OTEL_SDK_DISABLED"], "true") || values["OTEL_TRACES_EXPORTER"] == "none" {
		return Config{}, nil
	}
	if at, err := url.Parse(c.Endpoint); err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return Config{}, fault.Invalid("OTEL_EXPORTER_OTLP_ENDPOINT %q is no http:// or https:// address of a collector", c.Endpoint)
	}
	if protocol := either("PROTOCOL"); protocol == "grpc" {
		return Config{}, fault.Invalid("OTEL_EXPORTER_OTLP_PROTOCOL asks for grpc; this version sends traces by http/json: name the collector's HTTP address, usually with port 4318")
	}
	for _, pair := range pairs(either("HEADERS")) {
		c.Headers = append(c.Headers, [2]string{pair.Key, pair.Value})
	}
	if err := c.sampler(values["OTEL_TRACES_SAMPLER"], values["OTEL_TRACES_SAMPLER_ARG"]); err != nil {
		return Config{}, err
	}
	c.Resource = append([]Attribute{{"service.name", service}}, defaults...)
	for _, pair := range pairs(values["OTEL_RESOURCE_ATTRIBUTES"]) {
		c.set(pair)
	}
	if name := values["OTEL_SERVICE_NAME"]; name != "" {
		c.set(Attribute{"service.name", name})
	}
	return c, nil
}

func (c *Config) set(a Attribute) {
	for i := range c.Resource {
		if c.Resource[i].Key == a.Key {
			c.Resource[i].Value = a.Value
			return
		}
	}
	c.Resource = append(c.Resource, a)
}

// sampler reads which traces begin here; those of callers are theirs to decide.
func (c *Config) sampler(name, argument string) error {
	switch strings.TrimPrefix(name, "parentbased_") {
	case "", "always_on":
	case "always_off":
		c.Ratio = 0
	case "traceidratio":
		ratio, err := strconv.ParseFloat(argument, 64)
		if argument != "" && (err != nil || ratio < 0 || ratio > 1) {
			return fault.Invalid("OTEL_TRACES_SAMPLER_ARG %q is no share between 0 and 1", argument)
		}
		if argument != "" {
			c.Ratio = ratio
		}
	default:
		return fault.Invalid("OTEL_TRACES_SAMPLER %q is not known: use parentbased_always_on, parentbased_always_off or parentbased_traceidratio", name)
	}
	return nil
}

// pairs reads KEY=VALUE,KEY=VALUE with escaped values.
func pairs(text string) []Attribute {
	var out []Attribute
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || key == "" {
			continue
		}
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		out = append(out, Attribute{strings.TrimSpace(key), strings.TrimSpace(value)})
	}
	return out
}
