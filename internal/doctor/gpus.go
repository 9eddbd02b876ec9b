package doctor

import (
	"context"
	"strings"

	"github.com/millrace/millrace/internal/gpu"
)

// GPUs tells which GPUs can be handed out. Having none is fine; a driver that
// does not answer is not.
type GPUs struct {
	Finder gpu.Finder
}

// Name implements Check.
func (GPUs) Name() string { return "gpus" }

// Check implements Check.
func (c GPUs) Check(ctx context.Context) Finding {
	found, err := c.Finder.Find(ctx)
	switch {
	case err != nil:
		return warn("repair the driver (see nvidia-smi); functions that ask for no GPU run", "%s", message(err))
	case len(found.IDs) == 0:
		return ok("none (%s)", found.Source)
	}
	return ok("%d: %s (%s)", len(found.IDs), strings.Join(found.IDs, ", "), found.Source)
}
