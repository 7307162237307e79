package timer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
)

const (
	popTimeout = 2 * time.Second // for the answer to a pop
	retryAfter = popTimeout + 250*time.Millisecond
)

// errNotOwner stops an owner that does not know yet that it is one no more.
var errNotOwner = errors.New("another node works on its shard by now")

// look verifies one hint against the timer and pops it if it is time.
func (s *Service) look(ctx context.Context, h due.Hint) error {
	t, version, err := s.read(ctx, h.ID)
	switch {
	case err != nil:
		return err
	case t == nil:
		return s.index.Done(ctx, h)
	case t.next().After(time.Now()):
		return s.index.Move(ctx, h, t.next(), nil)
	case t.GetOwner() > h.Owner:
		return fmt.Errorf("timer %s: %w", h.ID, errNotOwner)
	}
	// An attempt above the number of replicas is one whose predecessor ended with the process, not with a failure.
	return s.attempt(ctx, t, version, h)
}

// attempt is one attempt of one pop. Before anything is sent the sequence number and the time of the next attempt are
// on disk: whoever finds the timer then repeats the pop under the same number, and at most as often as it has replicas.
func (s *Service) attempt(ctx context.Context, t *Timer, version uint64, h due.Hint) error {
	begun, _ := proto.Clone(t).(*Timer)
	if begun.GetAttempts() == 0 {
		begun.Sequence++
	}
	begun.Attempts++
	begun.Owner = h.Owner
	begun.NextAt = time.Now().Add(retryAfter).UnixMilli()
	done, err := s.write(ctx, begun, version, s.index.Moved(h, begun.next(), nil)...)
	if err != nil || !done {
		return err // not done: changed meanwhile, and the hint comes again and finds what it is now
	}
	s.index.Written(begun.next(), begun.GetId())
	s.popping.Add(1)
	defer s.popping.Add(-1)
	late := time.Since(t.next())
	ctx = context.WithoutCancel(ctx) // what is on its way is finished, so that an orderly stop repeats no pop
	sendCtx, cancel := context.WithTimeout(ctx, popTimeout)
	err = s.pop(sendCtx, begun.GetUri(), begun.GetOpaque(), begun.GetSequence())
	cancel()
	s.metrics.popped(err, late)
	if err != nil {
		return s.unanswered(ctx, begun, err)
	}
	return s.answered(ctx, begun)
}

// answered plans the next pop, or ends the timer. If the timer was set anew or deleted meanwhile (by its callback,
// as often as not), that stands.
func (s *Service) answered(ctx context.Context, begun *Timer) error {
	now, version, err := s.read(ctx, begun.GetId())
	if err != nil || !proto.Equal(now, begun) {
		return err
	}
	if !begun.pops() {
		_, err := s.remove(ctx, begun, version)
		return err
	}
	next, _ := proto.Clone(begun).(*Timer)
	next.Attempts, next.NextAt = 0, begun.nextPop().UnixMilli()
	done, err := s.write(ctx, next, version, s.index.Put(next.next(), next.GetId(), nil))
	if done {
		s.index.Written(next.next(), next.GetId())
	}
	return err
}

// unanswered ends the timer when this was its last attempt; otherwise the hint is in place already.
func (s *Service) unanswered(ctx context.Context, begun *Timer, cause error) error {
	s.log.Warn("a timer's callback did not answer", "timer", begun.GetId(), "uri", begun.GetUri(),
		"sequence", begun.GetSequence(), "attempt", begun.GetAttempts(), "of", begun.GetReplicas(), "error", cause)
	if begun.GetAttempts() < begun.GetReplicas() {
		return nil
	}
	now, version, err := s.read(ctx, begun.GetId())
	if err != nil || !proto.Equal(now, begun) {
		return err
	}
	s.metrics.dropped.Inc()
	_, err = s.remove(ctx, begun, version)
	return err
}
