package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/render"
)

// Examiner is what `doctor` needs; a System that can examine this machine
// implements it.
type Examiner interface {
	// Examine makes all checks of this machine and of the data directory. listen is
	// the address that a server would use. It changes nothing that stays.
	Examine(ctx context.Context, options ConnectOptions, listen string) []Diagnosis
}

// Diagnosis is what one check found.
type Diagnosis struct {
	Name   string // of the check, such as "python"
	Status string // ok, warn or fail
	Detail string // what was found
	Remedy string // what to do; "" when nothing
}

func newDoctor(e *env) *cobra.Command {
	var output, listen string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine this machine and say what to do",
		Long: `Examine this machine: the data directory, the database, Python and the packages it can
install, limits, GPUs, tools, the address of a server. Each line says what was found and, where
something is amiss, what to do. With --server (MILLRACE_URL) the server is asked too.

Exit status 1 when runs would fail; a warning is no failure.`,
		Example: `  millrace doctor
  millrace doctor --data-dir /srv/millrace --listen 0.0.0.0:8080
  millrace doctor -o json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(output, "table", "json", "yaml"); err != nil {
				return err
			}
			return e.doctor(listen, output)
		},
	}
	e.addGlobal(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address that a server would use")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	registerWords(cmd, "output", "table", "json", "yaml")
	return cmd
}

func (e *env) doctor(listen, output string) error {
	examiner, ok := e.system.(Examiner)
	if !ok {
		return fault.NotSupported("this build cannot examine the machine")
	}
	options, err := e.connectOptions()
	if err != nil {
		return err
	}
	findings := examiner.Examine(e.soft, options, listen)
	if server := e.server(); server != "" {
		findings = append(findings, e.examineServer(server))
	}
	if output == "table" {
		width, _ := e.terminal(e.Stdout)
		err = e.printf("%s", renderDiagnoses(findings, e.palette(e.Stdout), width))
	} else {
		err = e.printDocument(output, diagnosesDocument(findings))
	}
	if err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.Status == "fail" {
			return exitError(ExitFailed)
		}
	}
	return nil
}

// examineServer asks the server that was named whether it is well.
func (e *env) examineServer(server string) Diagnosis {
	d := Diagnosis{Name: "server", Status: "ok"}
	connection, err := e.dial(server)
	if err == nil {
		defer connection.Client.Close()
		var health document.Object
		if health, err = connection.Client.Health(e.soft); err == nil {
			// Health is answered to everybody; the list says whether the token is right.
			for _, err = range connection.Client.Projects(e.soft, client.ProjectQuery{}) {
				break
			}
			d.Detail = fmt.Sprintf("%s answers, version %s", server, cmp.Or(document.String(health, "version"), "unknown"))
		}
	}
	if err != nil {
		d.Status, d.Detail, d.Remedy = "fail", sentence(err), "start the server, or correct --server, MILLRACE_URL and the token"
	}
	return d
}

func diagnosesDocument(findings []Diagnosis) document.Object {
	list := make([]any, len(findings))
	worst := "ok"
	for i, finding := range findings {
		entry := document.Object{"name": finding.Name, "status": finding.Status, "detail": finding.Detail}
		if finding.Remedy != "" {
			entry["remedy"] = finding.Remedy
		}
		list[i] = entry
		if finding.Status == "fail" || finding.Status == "warn" && worst == "ok" {
			worst = finding.Status
		}
	}
	return document.Object{"status": worst, "checks": list}
}

// renderDiagnoses is one line a check, and one more for what to do.
func renderDiagnoses(findings []Diagnosis, palette render.Palette, width int) string {
	styles := map[string]render.Style{"ok": render.Green, "warn": render.Yellow, "fail": render.Red}
	longest := 0
	for _, finding := range findings {
		longest = max(longest, len(finding.Name))
	}
	var b strings.Builder
	for _, finding := range findings {
		lead := longest + 8
		detail := render.StripEscapes(oneLine(finding.Detail))
		if width > lead+20 {
			detail = render.Cut(detail, width-lead)
		}
		fmt.Fprintf(&b, "%s  %-*s  %s\n", palette.Paint(styles[finding.Status], fmt.Sprintf("%-4s", finding.Status)), longest, finding.Name, detail)
		if finding.Remedy != "" {
			fmt.Fprintf(&b, "%s→ %s\n", strings.Repeat(" ", lead), finding.Remedy)
		}
	}
	return b.String()
}
