package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra/cassandratest"
)

// cassandraPID is the process id of the node's Cassandra.
func (l *lab) cassandraPID() int {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "data", "cassandra", "cassandra.pid"))
	l.must(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	l.must(err)
	return pid
}

// TestSiteOnCassandra lets a site of store nodes, real processes with a Cassandra each, grow from one to three, kills
// the Cassandra of one and the process of another, and takes one out, while timers are set, which must all pop.
func TestSiteOnCassandra(t *testing.T) {
	home, err := cassandratest.Home()
	if err != nil {
		t.Fatal(err)
	}
	s := newSiteLabAlone(t, "127.36.9")
	s.options = fmt.Sprintf("store_engine=cassandra\ncassandra_directory=%s\ncassandra_heap_mb=320\ncassandra_ring_delay=1000\n", home)
	s.environ = []string{"JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1"} // the test is over before the better compiler has paid
	s.patience = 5 * time.Minute
	c := serveCallbacks(t, "127.36.9.252")
	began := time.Now()
	step := func(what string) { t.Helper(); t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	s.add(1)
	step("the first node is ready")
	st := &stream{set: map[string]time.Time{}, pause: 500 * time.Millisecond, late: 30 * time.Second}
	stop := st.begin(s, c.uri, "k")
	defer stop()
	s.add(2)
	step("the second node is ready")
	three := s.add(3)
	step("the third node is ready")
	s.voters(3)

	two := s.nodes[2]
	two.must(syscall.Kill(two.cassandraPID(), syscall.SIGKILL))
	two.eventually(20*time.Second, func() error {
		code, _, err := two.get(fmt.Sprintf("http://%s:9980/readyz", two.address))
		if err == nil && code == 200 {
			err = errors.New("it is ready without its Cassandra")
		}
		return err
	})
	two.ready()
	step("a Cassandra was killed and is back")
	three.kill()
	three.start()
	three.ready()
	step("a store was killed and is back")
	s.remove(3)
	step("a node has left")
	stop()
	st.popped(s, c)
}
