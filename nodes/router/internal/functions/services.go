package functions

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/scscf"
)

// services puts together what options and documents say about application servers.
type services struct {
	mu    sync.Mutex // between changes
	value atomic.Pointer[scscf.Services]
}

func (s *services) change(f func(v *scscf.Services)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := scscf.Services{}
	if old := s.value.Load(); old != nil {
		v = *old
	}
	f(&v)
	s.value.Store(&v)
}

func (s *services) setOptions(o *config.Options) {
	s.change(func(v *scscf.Services) {
		v.ApplyFallback, v.RejectUnmatched, v.Dummy = o.ApplyFallbackIFCs, o.RejectNoMatchingIFCs, o.DummyAppServer
		v.Continued, v.Terminated = o.SessionContinued, o.SessionTerminated
	})
}

// SetSharedCriteria takes shared_ifcs. A criterion that is wrong is left out, the error tells which; a document that does
// not parse leaves the old one in force.
func (r *Router) SetSharedCriteria(text string) error {
	sets, broken, err := ifc.ParseSets(text)
	if err != nil {
		return err
	}
	r.services.change(func(v *scscf.Services) { v.Sets = sets })
	return leftOut(broken)
}

// SetFallbackCriteria takes fallback_ifcs; errors are as those of SetSharedCriteria.
func (r *Router) SetFallbackCriteria(text string) error {
	list, broken, err := ifc.ParseFallback(text)
	if err != nil {
		return err
	}
	r.services.change(func(v *scscf.Services) { v.Fallback = list })
	return leftOut(broken)
}

// LeftOutError is the error of a document that is in force without some of its criteria.
type LeftOutError struct{ error }

func (e LeftOutError) Unwrap() error { return e.error }

func leftOut(broken []error) error {
	if len(broken) == 0 {
		return nil
	}
	return LeftOutError{errors.Join(broken...)}
}
