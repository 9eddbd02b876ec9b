package doctor

import (
	"context"
	"strings"

	"github.com/millrace/millrace/internal/limits"
)

// Limits checks by which means resources of a run can be limited.
type Limits struct{}

// Name implements Check.
func (Limits) Name() string { return "limits" }

// Check implements Check.
func (Limits) Check(context.Context) Finding {
	const remedy = "run as a user to whom control groups are delegated (for example in a systemd user session), or as root"
	applied, err := limits.Mechanism()
	switch {
	case err != nil:
		return warn(remedy, "no limits can be set: %s", message(err))
	case len(applied.Unenforced) > 0:
		return warn(remedy, "%s, which cannot limit %s here", applied.Mechanism, strings.Join(applied.Unenforced, ", "))
	case strings.Contains(applied.Mechanism, limits.MechanismRlimit):
		return warn(remedy, "%s: each process is limited by itself", applied.Mechanism)
	}
	return ok("%s for cpu, memory and processes", applied.Mechanism)
}
