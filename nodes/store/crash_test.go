package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// TestAcknowledgedWritesSurviveKills writes rows and registrations over the wire, kills the store in the middle, and
// checks that everything acknowledged is there.
func TestAcknowledgedWritesSurviveKills(t *testing.T) {
	l := newLab(t, "127.20.3.1")
	l.start()
	l.bootstrap(shared("127.20.3.1:9888"))
	l.ready()
	client := l.call()
	rows, registered := records.NewClient(client), registrations.NewClient(client)
	const writers = 8
	var written, applied [writers]atomic.Int64
	for range 2 {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					n := written[w].Load() + 1
					got, err := rows.Get(t.Context(), "crash", fmt.Sprint(w))
					if err != nil {
						continue // the store is dead
					}
					if _, swapped, err := rows.Swap(t.Context(), "crash", fmt.Sprint(w), got[0].GetVersion(), fmt.Append(nil, n)); err == nil && swapped {
						written[w].Store(n)
					}
					m := applied[w].Load() + 1
					_, err = registered.Apply(t.Context(), &registrations.ApplyRequest{Aor: fmt.Sprint("sip:", w, "-", m), Bindings: []*registrations.Binding{
						{Id: "b", ExpiresAt: time.Now().Add(time.Hour).UnixMilli()},
					}})
					if err == nil {
						applied[w].Store(m)
					}
				}
			})
		}
		<-time.After(500 * time.Millisecond) // load, not synchronisation
		l.kill()
		close(stop)
		wg.Wait()
		l.start()
		l.ready()
		l.eventually(10*time.Second, func() error { // the clients find the store again in their own time
			if _, err := registered.Get(t.Context(), "sip:nobody"); err != nil {
				return err
			}
			_, err := rows.Get(t.Context(), "crash", "0")
			return err
		})
		total := int64(0)
		for w := range writers {
			got, err := rows.Get(t.Context(), "crash", fmt.Sprint(w))
			l.must(err)
			var n int64
			if _, err := fmt.Sscan(string(got[0].GetValue()), &n); err != nil || n < written[w].Load() {
				t.Errorf("writer %d: %d acknowledged, %q is there", w, written[w].Load(), got[0].GetValue())
			}
			written[w].Store(n)
			for m := int64(1); m <= applied[w].Load(); m++ {
				rec, err := registered.Get(t.Context(), fmt.Sprint("sip:", w, "-", m))
				l.must(err)
				if len(rec.GetBindings()) != 1 {
					t.Errorf("registration %d of writer %d is lost", m, w)
				}
			}
			total += n + applied[w].Load()
		}
		t.Logf("%d writes acknowledged, none lost", total)
	}
}

// TestEtcdChildIsRestarted kills the member: the store stays, and the member comes back with its data. Then it kills
// the store: the member must not outlive it.
func TestEtcdChildIsRestarted(t *testing.T) {
	l := newLab(t, "127.20.3.2")
	l.start()
	l.bootstrap(shared("127.20.3.2:9888"))
	l.ready()
	before, err := l.management().Config(t.Context(), "shared_config")
	l.must(err)
	child := l.child()
	l.must(syscall.Kill(child, syscall.SIGKILL))
	l.eventually(10*time.Second, func() error {
		if next := l.child(); next == child {
			return fmt.Errorf("the member's process is %d, it was %d", next, child)
		}
		return nil
	})
	l.ready()
	after, err := l.management().Config(t.Context(), "shared_config")
	l.must(err)
	if after.Text != before.Text || after.Revision != before.Revision {
		t.Errorf("configuration %v after the member was killed, %v before", after, before)
	}
	child = l.child()
	l.kill()
	l.eventually(10*time.Second, func() error {
		if err := syscall.Kill(child, 0); err == nil {
			return fmt.Errorf("the member %d outlives its store", child)
		}
		return nil
	})
}
