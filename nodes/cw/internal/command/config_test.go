package command_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

func TestConfigRoundTrip(t *testing.T) {
	w := newWorld(t)
	w.must(t, "revision 7", "config", "download", "shared_config")
	code, out, _ := w.run(t, "", "config", "diff", "shared_config")
	if code != 0 || !strings.Contains(out, "does not differ") {
		t.Errorf("diff without a change: %d %q", code, out)
	}
	w.edit(t, "shared_config", "home_domain=example.com\nellis_api_key=key\nreg_max_expires=600\n")
	code, out, _ = w.run(t, "", "config", "diff", "shared_config")
	if code != 1 || !strings.Contains(out, "+reg_max_expires=600") || strings.Contains(out, "-home_domain") {
		t.Errorf("diff with a change: %d %q", code, out)
	}
	w.fails(t, 1, "nothing was changed", "n\n", "config", "upload", "shared_config")
	w.fails(t, 1, "nothing was changed", "", "config", "upload", "shared_config") // no answer is no
	if got := w.document("shared_config").Revision; got != 7 {
		t.Fatalf("a refused upload was done: revision %d", got)
	}
	code, out, errs := w.run(t, "yes\n", "config", "upload", "shared_config")
	if code != 0 || !strings.Contains(out, "+reg_max_expires=600") || !strings.Contains(out, "revision 17") || !strings.Contains(errs, "an unknown option") {
		t.Errorf("upload: %d %q %q", code, out, errs)
	}
	if got := w.document("shared_config"); !strings.Contains(got.Text, "600") || got.Author != "anna" {
		t.Errorf("stored is %+v", got)
	}
	if exists(w.copyOf("shared_config")) {
		t.Error("the local copy is still there")
	}
	w.must(t, "anna", "config", "list")
}

func TestConfigNewDocument(t *testing.T) {
	w := newWorld(t)
	w.must(t, "revision 0", "config", "download", "bgcf_json")
	if text, err := os.ReadFile(w.copyOf("bgcf.json")); err != nil || len(text) != 0 {
		t.Errorf("a document that does not exist must come as a blank file: %q, %v", text, err)
	}
	w.must(t, "nothing to do", "config", "upload", "bgcf_json")
	w.must(t, "revision 0", "config", "download", "bgcf_json")
	w.edit(t, "bgcf.json", `{"routes":[]}`)
	w.must(t, "revision 10", "config", "upload", "bgcf_json", "--autoconfirm")
	dir := t.TempDir()
	w.must(t, dir+"/bgcf.json", "config", "download", "bgcf_json", "--dir", dir)
}

func TestConfigRefusals(t *testing.T) {
	w := newWorld(t)
	w.fails(t, 2, "give one type of", "", "config", "download", "nonsense")
	w.fails(t, 2, "give one type of", "", "config", "upload")
	w.fails(t, 2, "unknown command", "", "config", "explode")
	w.fails(t, 2, "unknown flag", "", "config", "download", "bgcf_json", "--what")
	w.fails(t, 1, "download", "", "config", "upload", "bgcf_json")
	w.must(t, "", "config", "download", "shared_config")
	w.edit(t, "shared_config", "reg_max_expires=600\n")
	w.fails(t, 1, "home_domain is missing", "", "config", "upload", "shared_config", "--autoconfirm")
	if !exists(w.copyOf("shared_config")) {
		t.Error("a refused upload removed the operator's edit")
	}
	w.fails(t, 1, "kept the local copy", "n\n", "config", "download", "shared_config")
	// Somebody else changes the document: the edit is refused, before and after the question.
	w.edit(t, "shared_config", "home_domain=example.com\n")
	w.change("shared_config", "home_domain=example.com\nreg_max_expires=900\n")
	w.fails(t, 1, "changed by somebody", "", "config", "upload", "shared_config", "--autoconfirm")
	w.must(t, "revision 8", "config", "download", "shared_config", "--autoconfirm")
	w.edit(t, "shared_config", strings.Repeat("x", 1<<20+1))
	w.fails(t, 1, "at most", "", "config", "upload", "shared_config", "--autoconfirm")
	w.edit(t, "shared_config", " \n")
	w.fails(t, 1, "is empty", "", "config", "upload", "shared_config", "--autoconfirm")
	if err := os.Remove(w.copyOf(".shared_config.revision")); err != nil {
		t.Fatal(err)
	}
	w.fails(t, 1, "download again", "", "config", "upload", "shared_config", "--autoconfirm")
}

func TestOldCopiesAreRemoved(t *testing.T) {
	w := newWorld(t)
	w.must(t, "", "config", "download", "shared_config")
	old := time.Now().Add(-31 * 24 * time.Hour)
	if err := os.Chtimes(w.copyOf("shared_config"), old, old); err != nil {
		t.Fatal(err)
	}
	w.fails(t, 1, "older than 30 days", "", "config", "upload", "shared_config")
	if exists(w.copyOf("shared_config")) || exists(w.copyOf(".shared_config.revision")) {
		t.Error("the old copy is still there")
	}
}

func TestClusterStateAndSync(t *testing.T) {
	w := newWorld(t)
	w.cluster = management.Cluster{
		ID: "abc", Healthy: true, Members: []management.Member{{ID: "1", Name: "store-1", Leader: true, Healthy: true}},
		Nodes: []management.Registration{
			{Name: "router-1.site1", Role: "router", Site: "site1", Address: "127.0.0.1", State: management.Ready, Applied: map[string]int64{"shared_config": 7}},
			{Name: "edge-1.site1", Role: "edge", Site: "site1", Address: "127.0.0.2", State: management.Ready, Applied: map[string]int64{"shared_config": 7}},
		},
	}
	out := w.must(t, "leader", "cluster", "state")
	if strings.Index(out, "edge-1.site1") > strings.Index(out, "router-1.site1") {
		t.Errorf("nodes are not in order: %s", out)
	}
	w.must(t, "every node has the newest", "config", "sync")
	w.change("shared_config", "home_domain=example.com\n")
	w.fails(t, 1, "2 of the revisions", "", "config", "sync")
	w.fails(t, 1, "2 of the revisions", "", "config", "sync", "--wait", "10ms")
	done := make(chan string, 1)
	go func() { _, out, _ := w.run(t, "", "config", "sync", "--wait", "20s"); done <- out }()
	w.mu.Lock()
	for i := range w.cluster.Nodes {
		w.cluster.Nodes[i].Applied = map[string]int64{"shared_config": 8}
	}
	w.mu.Unlock()
	if out := <-done; !strings.Contains(out, "every node has the newest") {
		t.Errorf("waiting for the nodes: %s", out)
	}
	w.mu.Lock()
	w.cluster.Nodes[0].State = management.Draining
	w.mu.Unlock()
	w.fails(t, 1, "draining", "", "cluster", "state")
}

func TestUnreachableAndMissingDeployment(t *testing.T) {
	w := newWorld(t)
	w.port = 1
	w.fails(t, 1, "no store node of store.site1.ims.test answers", "", "config", "list")
	w.fails(t, 1, "looking up store.site9.ims.test", "", "--site", "site9", "cluster", "state")
	w.fails(t, 1, "no such file", "", "--deployment", w.home+"/nothing", "config", "list")
	w.folder = ""
	w.fails(t, 2, "which deployment", "", "config", "list")
}
