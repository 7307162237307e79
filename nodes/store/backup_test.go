package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
)

// TestBackupToAnotherSize takes a backup of a site of one node with its own disk, and restores it onto one of three nodes over a
// shared engine: every row and document is equal.
func TestBackupToAnotherSize(t *testing.T) {
	small := newLab(t, "127.37.26.1")
	small.start()
	small.bootstrap(shared("127.37.26.1:9888"))
	small.ready()
	rows := records.NewClient(small.call())
	for i := range 300 {
		for _, table := range []string{"subscribers", "doc_simservs", "account"} {
			if _, done, err := rows.Swap(t.Context(), table, fmt.Sprintf("%04d", i), 0, []byte(strings.Repeat("x", i))); err != nil || !done {
				t.Fatal(done, err)
			}
		}
	}
	from := small.management()
	_, err := from.PutConfig(t.Context(), management.Document{Type: "bgcf_json", Text: `{"routes":[]}`})
	small.must(err)
	b, err := from.CreateBackup(t.Context())
	small.must(err)
	if b.Rows != 902 { // 900 rows, shared_config and bgcf_json
		t.Errorf("the backup has %d rows", b.Rows)
	}
	var file bytes.Buffer
	small.must(from.ReadBackup(t.Context(), b.ID, &file))
	if err := from.ReadBackup(t.Context(), "20200101T000000Z", &bytes.Buffer{}); management.StatusOf(err) != http.StatusNotFound {
		t.Errorf("a backup that is not there: %v", err)
	}

	s := newSiteLabAlone(t, "127.37.27")
	s.add(1)
	s.add(2)
	three := s.add(3)
	s.voters(3)
	to := three.management()
	if _, err := to.Restore(t.Context(), "", bytes.NewReader(file.Bytes()[:file.Len()/2]), nil); management.StatusOf(err) != http.StatusUnprocessableEntity {
		t.Errorf("half a backup: %v", err)
	}
	done, err := to.Restore(t.Context(), "", bytes.NewReader(file.Bytes()), nil)
	small.must(err)
	if done.Rows != 900 || done.Documents == 0 {
		t.Errorf("it put back %+v", done)
	}
	there := records.NewClient(s.nodes[1].call())
	for _, table := range []string{"subscribers", "doc_simservs", "account"} {
		want, _, err := rows.Scan(t.Context(), table, "", "", 1000)
		small.must(err)
		got, _, err := there.Scan(t.Context(), table, "", "", 1000)
		small.must(err)
		if len(got) != len(want) {
			t.Fatalf("%s has %d rows, want %d", table, len(got), len(want))
		}
		for i := range want {
			if got[i].GetKey() != want[i].GetKey() || !bytes.Equal(got[i].GetValue(), want[i].GetValue()) {
				t.Errorf("%s: row %s differs", table, want[i].GetKey())
			}
		}
	}
	for _, typ := range []string{config.SharedFile, "bgcf_json"} {
		want, err := from.Config(t.Context(), typ)
		small.must(err)
		got, err := s.nodes[2].management().Config(t.Context(), typ)
		small.must(err)
		if got.Text != want.Text {
			t.Errorf("%s is %q, want %q", typ, got.Text, want.Text)
		}
	}
}
