package hssrole

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

const (
	table        = "hss_assignments"
	swapAttempts = 16 // before a row that others keep changing is given up
	serveTimeout = 5 * time.Second
)

// Rows is the part of the store's record service that is used.
type Rows interface {
	Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error)
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (now uint64, swapped bool, err error)
	Delete(ctx context.Context, table, key string, version uint64) (deleted bool, err error)
}

// Server-Assignment-Type (TS 29.229 6.3.15).
const (
	noAssignment          = 0
	registration          = 1
	reRegistration        = 2
	unregisteredUser      = 3
	timeoutDeregistration = 4
	userDeregistration    = 5
	timeoutStoreName      = 6
	userStoreName         = 7
	administrative        = 8
	authenticationFailure = 9
	authenticationTimeout = 10
	tooMuchData           = 11
)

// serverAssignment is SAR (TS 29.228 6.1.2.1).
func (s *Server) serverAssignment(ctx context.Context, q question, b *wire.Builder) (verdict, error) {
	if q.impu == "" {
		return missing, nil
	}
	sub, err := s.deps.Master.Subscription(ctx, q.impi, q.impu)
	switch {
	case err != nil:
		return verdict{}, err
	case sub.Primary == "":
		return rejected, nil
	}
	if err := s.change(ctx, sub.Primary, func(a *Assignment) error {
		if v := assign(a, q); v != success {
			return refusedError{v}
		}
		return nil
	}); err != nil {
		return verdict{}, err
	}
	if q.impi != "" {
		b.Text(wire.UserName, q.impi)
	}
	if q.kind <= unregisteredUser {
		describe(b, sub)
	}
	return success, nil
}

// describe adds what an S-CSCF is to know of a user.
func describe(b *wire.Builder, sub *master.Subscription) {
	b.Text(wire.UserData, sub.Profile)
	if sub.CDF != "" {
		b.Begin(wire.ChargingInformation).Text(wire.PrimaryCharging, "aaa://"+sub.CDF).End()
	}
	if len(sub.Private) > 1 {
		b.Begin(wire.AssociatedIdentities)
		for _, impi := range sub.Private {
			b.Text(wire.UserName, impi)
		}
		b.End()
	}
}

// assign changes an assignment as a SAR demands, or refuses.
func assign(a *Assignment, q question) verdict {
	other := a.GetServerName() != "" && a.GetServerName() != q.server
	is := slices.Contains(a.GetRegistered(), q.impi)
	take := func() { a.ServerName, a.Host, a.Realm = q.server, q.host, q.realm }
	settle := func() { a.Pending = without(a.GetPending(), q.impi) }
	switch q.kind {
	case noAssignment:
		if other || a.GetServerName() == "" {
			return unableToComply
		}
	case registration, reRegistration:
		if q.impi == "" {
			return missing
		}
		if other { // the user has moved: the old S-CSCF serves nobody of the set any more
			a.Registered = nil
		}
		take()
		settle()
		if a.Unregistered = false; !is || other {
			a.Registered = append(a.GetRegistered(), q.impi)
		}
	case unregisteredUser:
		if len(a.GetRegistered()) > 0 {
			return alreadyRegistered
		}
		take()
		a.Unregistered = true
	case timeoutDeregistration, userDeregistration, administrative, tooMuchData, timeoutStoreName, userStoreName:
		if other || !is && !a.GetUnregistered() {
			return notRegistered
		}
		a.Registered = without(a.GetRegistered(), q.impi)
		a.Unregistered = len(a.GetRegistered()) == 0 && (q.kind == timeoutStoreName || q.kind == userStoreName)
	case authenticationFailure, authenticationTimeout:
		settle()
	default:
		return inAssignmentType
	}
	return success
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == one })
}

// idle tells an assignment of which nothing is left.
func idle(a *Assignment) bool {
	return len(a.GetRegistered()) == 0 && len(a.GetPending()) == 0 && !a.GetUnregistered()
}

// assignment reads which S-CSCF serves a set; an empty one if none does.
func (s *Server) assignment(ctx context.Context, primary string) (*Assignment, error) {
	a, _, err := s.read(ctx, primary)
	return a, err
}

func (s *Server) read(ctx context.Context, primary string) (*Assignment, uint64, error) {
	rows, err := s.deps.Rows.Get(ctx, table, primary)
	if err != nil {
		return nil, 0, fmt.Errorf("reading an assignment: %w", err)
	}
	a := &Assignment{}
	if err := proto.Unmarshal(rows[0].GetValue(), a); err != nil {
		return nil, 0, fmt.Errorf("decoding the assignment of %s: %w", primary, err)
	}
	return a, rows[0].GetVersion(), nil
}

// change is the read-modify-write of an assignment; decide is called again when somebody else was faster.
func (s *Server) change(ctx context.Context, primary string, decide func(a *Assignment) error) error {
	for range swapAttempts {
		a, version, err := s.read(ctx, primary)
		if err != nil {
			return err
		}
		before := proto.Clone(a)
		if err := decide(a); err != nil {
			return err
		}
		var done bool
		switch {
		case proto.Equal(before, a), idle(a) && version == 0:
			return nil
		case idle(a):
			done, err = s.deps.Rows.Delete(ctx, table, primary, version)
		default:
			var value []byte
			if value, err = proto.Marshal(a); err == nil {
				_, done, err = s.deps.Rows.Swap(ctx, table, primary, version, value)
			}
		}
		switch {
		case err != nil:
			return fmt.Errorf("writing the assignment of %s: %w", primary, err)
		case done:
			return nil
		}
	}
	return errors.Join(fmt.Errorf("writing the assignment of %s: the row keeps changing", primary), rpc.ErrUnavailable)
}
