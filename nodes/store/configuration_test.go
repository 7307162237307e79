package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// TestRollingRestart changes an option that nodes read only when they start: the three store nodes restart one after the other,
// while timers go on.
func TestRollingRestart(t *testing.T) {
	s := newSiteLab(t, "127.37.23")
	c := serveCallbacks(t, "127.37.23.252")
	nodes := []*lab{s.add(1), s.add(2), s.add(3)}
	s.voters(3)
	started := func() (out []time.Time) {
		for _, l := range nodes {
			status, err := l.management().Status(t.Context())
			if err != nil {
				return nil
			}
			out = append(out, status.StartedAt)
		}
		return out
	}
	before := started()
	m := nodes[0].management()
	doc, err := m.Config(t.Context(), config.SharedFile)
	nodes[0].must(err)
	doc.Text, doc.Author = doc.Text+"reg_max_expires=600\n", "" // live
	doc, err = m.PutConfig(t.Context(), *doc)
	nodes[0].must(err)
	st := &stream{set: map[string]time.Time{}}
	stop := st.begin(s, c.uri, "r")
	defer stop()
	doc.Text, doc.Author = doc.Text+"dns_timeout=300\n", "" // read at the start
	doc, err = m.PutConfig(t.Context(), *doc)
	nodes[0].must(err)
	most := 0
	nodes[0].eventually(90*time.Second, func() error {
		away := 0
		for _, l := range nodes {
			if code, _, err := l.get(fmt.Sprintf("http://%s:%d/readyz", l.address, config.HealthPort(config.Store))); err != nil || code != http.StatusOK {
				away++
			}
		}
		most = max(most, away)
		now := started()
		if len(now) != 3 {
			return errors.New("a node is away")
		}
		for i := range now {
			if now[i].Equal(before[i]) {
				return fmt.Errorf("%s has not been restarted", nodes[i].address)
			}
		}
		view, err := m.Cluster(t.Context())
		if err != nil {
			return err
		}
		for _, n := range view.Nodes {
			if n.State != management.Ready || len(n.Restart) > 0 || n.Applied[config.SharedFile] != doc.Revision {
				return fmt.Errorf("%s is %s, waits for %v, has revision %d of %d", n.Name, n.State, n.Restart, n.Applied[config.SharedFile], doc.Revision)
			}
		}
		return nil
	})
	if most > 1 {
		t.Errorf("%d of 3 nodes were not ready at once", most)
	}
	nodes[0].eventually(10*time.Second, func() error {
		q, err := m.Restarts(t.Context())
		if err == nil && (q.Current != "" || len(q.Waiting) > 0 || q.Halted != "") {
			err = fmt.Errorf("the queue is %+v", q)
		}
		return err
	})
	stop()
	st.popped(s, c)
	history, err := m.ConfigHistory(t.Context(), config.SharedFile)
	nodes[0].must(err)
	if len(history) != 3 || history[0].Revision != doc.Revision || history[0].Author != "terraform" || history[2].Author != "bootstrap" || history[0].Text != "" {
		t.Errorf("the history is %+v", history)
	}
	first, err := m.ConfigAt(t.Context(), config.SharedFile, history[2].Revision)
	if err != nil || strings.Contains(first.Text, "reg_max_expires") {
		t.Errorf("the first text is %+v, %v", first, err)
	}
	if _, err := m.ConfigAt(t.Context(), config.SharedFile, 1); management.StatusOf(err) != http.StatusNotFound {
		t.Errorf("a revision that never was: %v", err)
	}
}

// TestHistoryIsBounded changes a document more often than changes are kept.
func TestHistoryIsBounded(t *testing.T) {
	l := newLab(t, "127.37.24.1")
	l.start()
	l.bootstrap(shared("127.37.24.1:9888"))
	l.ready()
	m := l.management()
	doc := &management.Document{Type: "bgcf_json"}
	for i := range 60 {
		doc.Text = fmt.Sprintf(`{"routes":[{"name":"%d","domain":"*","route":["sip:x"]}]}`, i)
		var err error
		doc, err = m.PutConfig(t.Context(), *doc)
		l.must(err)
	}
	history, err := m.ConfigHistory(t.Context(), "bgcf_json")
	l.must(err)
	if len(history) != 50 || history[0].Revision != doc.Revision {
		t.Errorf("%d changes are kept, the last of revision %d, want 50 and %d", len(history), history[0].Revision, doc.Revision)
	}
}
