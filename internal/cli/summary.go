package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/render"
	"github.com/millrace/millrace/internal/tune"
)

// summary tells how a run has ended, and where to look.
func (v *runView) summary(result RunResult) {
	if v.quiet {
		return
	}
	_, _ = v.env.Stderr.Write([]byte(renderSummary(result, v.env.systemFlags(), v.palette)))
}

// systemFlags are the flags of this command that another one needs to reach the
// same system.
func (e *env) systemFlags() string {
	flags := ""
	if e.global.server != "" {
		flags += " --server " + function.Quote(e.global.server)
	}
	if e.global.dataDir != "" {
		flags += " --data-dir " + function.Quote(e.global.dataDir)
	}
	return flags
}

// renderSummary is the text of the summary; flags are added to the commands that
// show more.
func renderSummary(result RunResult, flags string, palette render.Palette) string {
	var b strings.Builder
	doc := result.Run
	uid, project := document.String(doc, "metadata", "uid"), document.String(doc, "metadata", "project")
	state := document.String(doc, "status", "state")
	row := func(label, text string) {
		fmt.Fprintf(&b, "  %s  %s\n", palette.Paint(render.Dim, fmt.Sprintf("%-9s", label)), text)
	}
	row("run", fmt.Sprintf("%s %s, project %s", uid, palette.Paint(render.Bold, document.String(doc, "metadata", "name")), project))
	if result.Detached {
		row("state", "accepted; it goes on without this command")
	} else {
		row("state", palette.Paint(render.StateStyle(state), state)+elapsedText(doc))
	}
	if text := document.String(doc, "status", "error"); text != "" {
		for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			label := "error"
			if i > 0 {
				label = ""
			}
			row(label, palette.Paint(render.Red, render.StripEscapes(line)))
		}
	} else if text := cmp.Or(document.String(doc, "status", "status_text"), document.String(doc, "status", "reason")); text != "" && state != "completed" {
		row("note", oneLine(text))
	}
	if from := document.String(doc, "status", "provenance", "cached_from"); from != "" {
		row("cached", "not executed: the outputs are those of run "+from)
	} else if why := document.String(doc, "status", "provenance", "cache", "refused"); why != "" {
		row("cached", "no: "+oneLine(why))
	}
	if n := len(document.List(doc, "status", "iterations")) - 1; n >= 0 {
		row("iters", iterationsText(doc, n))
	} else if result.Search != "" {
		row("iters", result.Search)
	}
	pairs := func(label string, names []string, value func(string) string) {
		longest := 0
		for _, name := range names {
			longest = max(longest, render.Width(name))
		}
		for i, name := range names {
			if i > 0 {
				label = ""
			}
			row(label, name+strings.Repeat(" ", longest-render.Width(name)+2)+value(name))
		}
	}
	results := document.Map(doc, "status", "results")
	pairs("results", slices.Sorted(maps.Keys(results)), func(name string) string { return shortValue(results[name]) })
	artifacts := artifactPaths(doc)
	pairs("artifacts", slices.Sorted(maps.Keys(artifacts)), func(name string) string { return artifacts[name] })
	commands := lookCommands(uid, project, flags)
	if document.List(doc, "status", "iterations") != nil || tune.Iterative(doc) {
		commands = append(commands, strings.Replace(commands[0], "logs", "get iterations", 1))
	}
	if tune.Iterative(doc) && state == "aborted" {
		commands = append(commands, strings.Replace(commands[0], "logs", "resume", 1))
	}
	row("look", strings.Join(commands, "\n             "))
	return b.String()
}

// iterationsText says what became of the iterations of a run whose table has n rows.
func iterationsText(doc document.Object, n int) string {
	failed, aborted := 0, 0
	for _, item := range document.List(doc, "status", "iterations")[1:] {
		if cells, ok := item.([]any); ok && len(cells) > 0 {
			switch cells[0] {
			case "error":
				failed++
			case "aborted":
				aborted++
			}
		}
	}
	text := fmt.Sprintf("%d", n)
	if failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if aborted > 0 {
		text += fmt.Sprintf(", %d ended early", aborted)
	}
	return text
}

// artifactPaths are the artifacts of a run by key: where they lie, or their URI
// when the document does not say.
func artifactPaths(doc document.Object) map[string]string {
	out := document.Strings(doc, "status", "artifact_uris")
	if out == nil {
		out = map[string]string{}
	}
	for _, item := range document.List(doc, "status", "artifacts") {
		artifact, ok := item.(document.Object)
		if !ok {
			continue
		}
		if path := document.String(artifact, "spec", "target_path"); path != "" {
			out[document.String(artifact, "metadata", "key")] = path
		}
	}
	return out
}

// lookCommands are the commands that show more of a run.
func lookCommands(uid, project, flags string) []string {
	short := uid
	if len(short) > 8 {
		short = short[:8]
	}
	if project != "default" {
		flags = " --project " + project + flags
	}
	return []string{"millrace logs " + short + flags, "millrace get run " + short + " -o yaml" + flags}
}

// elapsedText says how long a run took, "" when its document does not.
func elapsedText(doc document.Object) string {
	took, ok := elapsed(doc, time.Time{})
	if !ok {
		return ""
	}
	return " in " + render.Duration(took)
}

// elapsed is the time from a run's start to its end; now stands in for the end of
// one that is not over, unless it is zero.
func elapsed(doc document.Object, now time.Time) (time.Duration, bool) {
	start, err := document.ParseTime(document.String(doc, "status", "start_time"))
	if err != nil {
		return 0, false
	}
	end, err := document.ParseTime(cmp.Or(document.String(doc, "status", "end_time"), document.String(doc, "status", "last_update")))
	if !over(document.String(doc, "status", "state")) {
		if now.IsZero() {
			return 0, false
		}
		end, err = now, nil
	}
	if err != nil || end.Before(start) {
		return 0, false
	}
	return end.Sub(start), true
}
