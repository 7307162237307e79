package hssrole

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// Sets is where provisioning changes sets.
type Sets interface {
	Set(ctx context.Context, id string) (*subscribers.Set, error)
	PrivateSets(ctx context.Context, impi string) ([]*subscribers.Set, error)
}

// Peers carries requests to S-CSCFs.
type Peers interface {
	Do(ctx context.Context, m wire.Message, host string) (wire.Message, error)
	SessionID() string
}

// Pusher tells the S-CSCFs of other cores what provisioning changes (TS 29.228 6.1.3, 6.2.2): PPR when a profile does, RTR
// when a subscriber or a private identity goes.
type Pusher struct {
	Server   *Server
	Sets     Sets
	Describe func(*subscribers.Set) *master.Subscription
	Peers    Peers
	Attempts int           // for each message
	Pause    time.Duration // between them

	work sync.WaitGroup
}

// pushTime bounds the work after one change.
const pushTime = 30 * time.Second

// Watch hands requests of the provisioning API to next and looks at what they changed. What is to be told is told after
// the answer, which does not wait for it.
func (p *Pusher) Watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		before, err := p.snapshot(r.Context(), r.URL.Path)
		if err != nil {
			p.Server.deps.Log.Warn("looking up whom a change concerns", "path", r.URL.Path, "error", err)
		}
		status := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(status, r)
		if status.status >= 300 || len(before) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), pushTime)
		p.work.Go(func() {
			defer cancel()
			for id, was := range before {
				if err := p.changed(ctx, id, was); err != nil {
					p.Server.deps.Log.Error("telling another core of a change", "identity", was.Primary, "error", err)
				}
			}
		})
	})
}

// Wait returns when everything that was to be told has been told or given up.
func (p *Pusher) Wait() { p.work.Wait() }

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// snapshot describes the sets that a path of the provisioning API can change, as they are now, if somebody serves them.
func (p *Pusher) snapshot(ctx context.Context, path string) (map[string]*master.Subscription, error) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) < 2 {
		return nil, nil //nolint:nilnil // it names nothing
	}
	var sets []*subscribers.Set
	var err error
	switch parts[0] {
	case "irs":
		var one *subscribers.Set
		if one, err = p.Sets.Set(ctx, parts[1]); err == nil {
			sets = append(sets, one)
		}
	case "private":
		sets, err = p.Sets.PrivateSets(ctx, parts[1])
	}
	if err != nil {
		if errors.Is(err, subscribers.ErrNotFound) {
			err = nil
		}
		return nil, err //nolint:wrapcheck // it says what was read
	}
	out := map[string]*master.Subscription{}
	for _, set := range sets {
		was := p.Describe(set)
		was.Private = slices.Clone(was.Private)
		if was.Primary == "" {
			continue
		}
		a, err := p.Server.assignment(ctx, was.Primary)
		if err != nil {
			return nil, err
		}
		if a.GetServerName() != "" {
			out[set.GetId()] = was
		}
	}
	return out, nil
}

// changed tells the S-CSCF of a set what is different now.
func (p *Pusher) changed(ctx context.Context, id string, was *master.Subscription) error {
	a, err := p.Server.assignment(ctx, was.Primary)
	if err != nil || a.GetServerName() == "" {
		return err
	}
	is := &master.Subscription{}
	set, err := p.Sets.Set(ctx, id)
	switch {
	case err == nil:
		is = p.Describe(set)
	case !errors.Is(err, subscribers.ErrNotFound):
		return fmt.Errorf("reading the set: %w", err)
	}
	if is.Primary != was.Primary {
		return p.end(ctx, a, was, a.GetRegistered())
	}
	gone := slices.DeleteFunc(slices.Clone(a.GetRegistered()), func(impi string) bool { return slices.Contains(is.Private, impi) })
	if len(gone) > 0 {
		err = p.end(ctx, a, was, gone)
	}
	if is.Profile != was.Profile && (len(a.GetRegistered()) > len(gone) || a.GetUnregistered()) && len(is.Private) > 0 {
		err = errors.Join(err, p.profile(ctx, a, is))
	}
	return err
}

// begin is what RTR and PPR share.
func (p *Pusher) begin(command uint32, a *Assignment, impi string) *wire.Builder {
	return wire.NewRequest(nil, command, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, p.Peers.SessionID()).
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, p.Server.deps.Host).Text(wire.OriginRealm, p.Server.deps.Realm).
		Text(wire.DestinationHost, a.GetHost()).Text(wire.DestinationRealm, a.GetRealm()).Text(wire.UserName, impi)
}

// end is RTR for private identities that are gone, or for a whole set; then nobody serves them any more.
func (p *Pusher) end(ctx context.Context, a *Assignment, was *master.Subscription, gone []string) error {
	impis := gone
	if len(impis) == 0 { // served unregistered
		impis = was.Private
	}
	if len(impis) > 0 {
		b := p.begin(wire.RegistrationTermination, a, impis[0])
		if len(impis) > 1 {
			b.Begin(wire.AssociatedIdentities)
			for _, impi := range impis {
				b.Text(wire.UserName, impi)
			}
			b.End()
		}
		if len(gone) == 0 {
			b.Text(wire.PublicIdentity, was.Primary)
		}
		b.Begin(wire.DeregistrationReason).Uint32(wire.ReasonCode, 0).Text(wire.ReasonInfo, "subscription withdrawn").End() // PERMANENT_TERMINATION
		if err := p.send(ctx, "RTR", b, a.GetHost()); err != nil {
			return err
		}
	}
	return p.Server.change(ctx, was.Primary, func(a *Assignment) error {
		a.Registered = slices.DeleteFunc(a.GetRegistered(), func(impi string) bool { return slices.Contains(impis, impi) })
		a.Pending = slices.DeleteFunc(a.GetPending(), func(impi string) bool { return slices.Contains(impis, impi) })
		a.Unregistered = a.GetUnregistered() && len(gone) > 0
		return nil
	})
}

// profile is PPR.
func (p *Pusher) profile(ctx context.Context, a *Assignment, is *master.Subscription) error {
	impi := is.Private[0]
	if len(a.GetRegistered()) > 0 {
		impi = a.GetRegistered()[0]
	}
	return p.send(ctx, "PPR", p.begin(wire.PushProfile, a, impi).Text(wire.UserData, is.Profile), a.GetHost())
}

// send tries until the S-CSCF has taken it; one that does not know the user (5001) has nothing to do.
func (p *Pusher) send(ctx context.Context, name string, b *wire.Builder, host string) error {
	m, err := b.Finish()
	if err != nil {
		return fmt.Errorf("making the %s: %w", name, err)
	}
	for attempt := 1; ; attempt++ {
		if err = p.once(ctx, m, host); err == nil || attempt == p.Attempts {
			break
		}
		timer := time.NewTimer(p.Pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("sending the %s to %s: %w", name, host, err)
		}
	}
	if err != nil {
		return fmt.Errorf("sending the %s to %s: %w", name, host, err)
	}
	return nil
}

func (p *Pusher) once(ctx context.Context, m wire.Message, host string) error {
	ctx, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	answer, err := p.Peers.Do(ctx, m, host)
	if err != nil {
		return err //nolint:wrapcheck // send says what was done
	}
	if code, ok := answer.Uint32(wire.ResultCode); ok && code == wire.Success {
		return nil
	}
	if group, ok := answer.Find(wire.ExperimentalResult); ok {
		if data, ok := wire.Find(group, wire.ExperimentalResultCode); ok {
			if code, _ := wire.Number(data); code == userUnknown.code {
				return nil
			}
		}
	}
	return fmt.Errorf("the S-CSCF refuses: %s", answer.Text(wire.ErrorMessage))
}
