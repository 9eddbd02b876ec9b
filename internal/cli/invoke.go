package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

type invokeOptions struct {
	name, path string
	method     string
	data       string
	headers    []string
	timeout    string
	include    bool
	output     string
}

func newInvoke(e *env) *cobra.Command {
	var o invokeOptions
	cmd := &cobra.Command{
		Use:   "invoke NAME [PATH]",
		Short: "Send an event to a deployed function",
		Long: `Send an event to a deployed function and print its answer to standard output as it comes.

` + deploymentReferenceHelp + `
PATH is what the handler finds as the event's path, with a query if there is one. The event goes
through the server; the function's own address ('millrace get deployments') takes the same.

Exit status: 0 the answer's status is below 400, 1 it is not, or there is no answer.`,
		Example: `  millrace invoke scorer --data '{"x": [1, 2]}'
  millrace invoke demo/scorer /predict?verbose=1 --data @row.json --header 'X-Trace: 7'
  echo hello | millrace invoke scorer --data - -o json`,
		Args: arguments(1, 2, "a NAME and at most one PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.name = args[0]
			if len(args) == 2 {
				o.path = args[1]
			}
			return runInvoke(e, o)
		},
		ValidArgsFunction: e.completeFunctions,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&o.method, "method", "X", "", "method (default: POST with data, else GET)")
	flags.StringVar(&o.data, "data", "", "body: a text, @FILE, or - for standard input; JSON is sent as application/json")
	flags.StringArrayVarP(&o.headers, "header", "H", nil, "header 'NAME: VALUE' (may be repeated)")
	flags.StringVar(&o.timeout, "timeout", "", "wait at most this long for the answer, such as 30s (default: as long as it takes)")
	flags.BoolVarP(&o.include, "include", "i", false, "print the status and the headers of the answer too, to standard error")
	flags.StringVarP(&o.output, "output", "o", "", "json: print status, headers and body of the answer as one document")
	registerWords(cmd, "output", "json")
	return cmd
}

func runInvoke(e *env, o invokeOptions) error {
	if o.output != "" && o.output != "json" {
		return usagef("-o %q must be json", o.output)
	}
	header := http.Header{}
	for _, text := range o.headers {
		name, value, ok := strings.Cut(text, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usagef("--header %q must be 'NAME: VALUE'", text)
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	body, err := e.payload(o.data, header)
	if err != nil {
		return err
	}
	method := strings.ToUpper(o.method)
	switch {
	case method != "":
	case body != nil:
		method = http.MethodPost
	default:
		method = http.MethodGet
	}
	ctx := e.soft
	if o.timeout != "" {
		limit, err := time.ParseDuration(o.timeout)
		if err != nil || limit <= 0 {
			return usagef("--timeout %q must be a duration such as 500ms or 30s", o.timeout)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	connection, err := e.serving()
	if err != nil {
		return err
	}
	defer connection.Client.Close()
	d, err := e.deploymentName(o.name)
	if err != nil {
		return err
	}
	response, err := connection.Client.Invoke(ctx, d.project, d.id(), method, o.path, header, body)
	if err != nil {
		if ctx.Err() != nil && e.soft.Err() == nil {
			return fault.Unavailable("the function %s did not answer within %s", d.id(), o.timeout)
		}
		return err
	}
	defer response.Body.Close()
	return e.showAnswer(o, response)
}

// payload is the body that --data means, nil for none.
func (e *env) payload(data string, header http.Header) (io.Reader, error) {
	var raw []byte
	var err error
	switch file, isFile := strings.CutPrefix(data, "@"); {
	case data == "":
		return nil, nil
	case data == "-":
		raw, err = io.ReadAll(e.Stdin)
	case isFile:
		raw, err = os.ReadFile(e.path(file))
	default:
		raw = []byte(data)
	}
	if err != nil {
		return nil, fault.Invalid("--data: %w", err)
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "text/plain; charset=utf-8")
		if _, err := document.Decode(raw); err == nil && len(bytes.TrimSpace(raw)) > 0 && slices.Contains([]byte(`{["`), bytes.TrimSpace(raw)[0]) {
			header.Set("Content-Type", "application/json")
		}
	}
	return bytes.NewReader(raw), nil
}

func (e *env) showAnswer(o invokeOptions, response *http.Response) error {
	failed := response.StatusCode >= 400
	if o.output == "json" {
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			return fault.Unavailable("the answer broke off: %w", err)
		}
		headers := document.Object{}
		for name, values := range response.Header {
			headers[name] = strings.Join(values, ", ")
		}
		var body any = string(raw)
		if value, err := document.Decode(raw); err == nil {
			body = value
		}
		if err := e.printDocument("json", document.Object{"status": response.StatusCode, "headers": headers, "body": body}); err != nil {
			return err
		}
	} else {
		if o.include {
			e.say("%s", response.Status)
			for name, values := range response.Header {
				e.say("%s: %s", name, strings.Join(values, ", "))
			}
		}
		if _, err := io.Copy(e.Stdout, response.Body); err != nil {
			return fault.Unavailable("the answer broke off: %w", err)
		}
		if width, is := e.terminal(e.Stdout); is && width >= 0 {
			_ = e.printf("\n")
		}
	}
	if failed {
		e.say("millrace: the function answered %s", response.Status)
		return exitError(ExitFailed)
	}
	return nil
}
