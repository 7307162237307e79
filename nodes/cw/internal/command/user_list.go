package command

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

// Default paces, in users per second: at most a tenth of the servers' CPU, says the manual.
const (
	paceShort = 500
	paceFull  = 5
)

// pace settles how fast to list; a faster one than the default is asked about.
func (t *tool) pace(o userOptions) (int, error) {
	standard := paceShort
	if o.full {
		standard = paceFull
	}
	switch {
	case o.pace < 0:
		return 0, usageError{errors.New("--pace must be a number of users per second above 0")}
	case o.pace == 0:
		return standard, nil
	case o.pace > standard && !o.force && !t.confirm("This pace may load the deployment. Use it?"):
		return 0, errors.New("nothing was listed")
	}
	return o.pace, nil
}

// userList lists all users at the chosen pace.
func (t *tool) userList(ctx context.Context, o userOptions) error {
	pace, err := t.pace(o)
	if err != nil {
		return err
	}
	c, err := t.provisioning(ctx, o)
	if err != nil {
		return err
	}
	listed, err := c.PublicIDs(ctx, provisioning.ListOptions{WithoutIDs: true})
	if err != nil {
		return err //nolint:wrapcheck // it says what it did
	}
	slices.SortFunc(listed, func(a, b provisioning.Listed) int { return strings.Compare(a.PublicID, b.PublicID) })
	tick := time.NewTicker(time.Second / time.Duration(pace))
	defer tick.Stop()
	failed := 0
	for i, user := range listed {
		if i > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err() //nolint:wrapcheck // interrupted
			case <-tick.C:
			}
		}
		if !o.full {
			t.printf("%s\n", user.PublicID)
			continue
		}
		if err := t.show(ctx, c, user.PublicID, false); err != nil {
			if !o.keepGoing {
				return err
			}
			failed++
			t.warnf("cw: %v\n", err)
		}
	}
	if failed > 0 {
		return errSilent
	}
	return nil
}
