package command_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/portal"
)

func TestHistoryAndRollback(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{"home_domain=example.com\nreg_max_expires=600\n", "home_domain=example.com\nreg_max_expires=900\n"} {
		w.must(t, "", "config", "download", "shared_config", "--autoconfirm")
		w.edit(t, "shared_config", text)
		w.must(t, "is now at revision", "config", "upload", "shared_config", "--autoconfirm")
	}
	out := w.must(t, "anna", "config", "history", "shared_config")
	if strings.Index(out, "27") > strings.Index(out, "17") {
		t.Errorf("the last change does not come first: %s", out)
	}
	w.must(t, "+reg_max_expires=900", "config", "history", "shared_config", "--revision", "27")
	w.fails(t, 1, "nothing was changed", "n\n", "config", "rollback", "shared_config", "17")
	w.must(t, "is now at revision 37, with the text of revision 17", "config", "rollback", "shared_config", "17", "--autoconfirm")
	if d := w.document("shared_config"); !strings.Contains(d.Text, "reg_max_expires=600") || d.Author != "anna" {
		t.Errorf("after the rollback: %+v", d)
	}
	w.must(t, "nothing to do", "config", "rollback", "shared_config", "17")
	w.fails(t, 1, "lists those that are", "", "config", "rollback", "shared_config", "5")
	w.fails(t, 2, "is not a number", "", "config", "rollback", "shared_config", "yesterday")
	w.fails(t, 2, "give a type and a revision", "", "config", "rollback", "shared_config")
}

func TestRestartQueue(t *testing.T) {
	w := newWorld(t)
	w.must(t, "no node waits", "cluster", "restart-queue")
	w.queue = management.Restarts{Waiting: []string{"router-2.site1"}, Current: "router-1.site1", Halted: "router-1.site1 is failed"}
	w.fails(t, 1, "stopped: router-1.site1 is failed", "", "cluster", "restart-queue")
	w.fails(t, 2, "not both", "", "cluster", "restart-queue", "--resume", "--clear")
	w.must(t, "waiting: router-2.site1", "cluster", "restart-queue", "--resume")
	w.must(t, "waiting", "cluster", "restart-queue", "--clear")
	if !slices.Equal(w.ordered, []string{management.ResumeRestarts, management.ClearRestarts}) {
		t.Errorf("the store was told %v", w.ordered)
	}
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	w.cluster = management.Cluster{Healthy: true}
	w.fails(t, 1, "etcd has a quorum", "", "cluster", "recover", "store-1.site1", "--autoconfirm")
	w.cluster = management.Cluster{Problem: "etcd has no quorum: read-only"}
	w.fails(t, 1, "read-only", "", "cluster", "state")
	w.fails(t, 1, "no store node answers as store-7.site1", "", "cluster", "recover", "store-7.site1", "--autoconfirm")
	w.fails(t, 1, "nothing was changed", "n\n", "cluster", "recover", "store-1.site1")
	w.must(t, "goes on from its disk", "cluster", "recover", "store-1.site1", "--autoconfirm")
	if len(w.ordered) != 1 {
		t.Errorf("the store was told %v", w.ordered)
	}
}

func TestSyncOfThePortal(t *testing.T) {
	w := newWorld(t)
	answer, asked := portal.SyncFindings{Lines: 3, Lost: []string{"sip:1@example.com"}, Orphans: []string{"sip:2@example.com"}}, ""
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.URL.Path + " " + r.Header.Get("NGV-API-Key") + " " + string(body)
		management.WriteJSON(rw, http.StatusOK, answer)
	}))
	t.Cleanup(server.Close)
	w.fails(t, 1, "2 differences; cw sync --repair", "", "sync", "--portal", server.URL)
	w.must(t, "2 lines; 2 differences repaired", "sync", "--repair", "--portal", server.URL)
	if !strings.Contains(asked, "/sync key") || !strings.Contains(asked, "true") {
		t.Errorf("the portal was asked %s", asked)
	}
	answer = portal.SyncFindings{Lines: 2}
	w.must(t, "2 lines, all with their subscribers", "sync", "--portal", server.URL)
}

func TestSyncCountsRestarts(t *testing.T) {
	w := newWorld(t)
	w.cluster = management.Cluster{Healthy: true, Nodes: []management.Registration{
		{Name: "edge-1.site1", Role: "edge", State: management.Ready, Applied: map[string]int64{"shared_config": 7}, Restart: []string{"edge_tls_port"}},
	}}
	w.fails(t, 1, "after its restart", "", "config", "sync")
}

func TestShowAndRemove(t *testing.T) {
	w := newWorld(t)
	w.must(t, "home_domain=example.com", "config", "show", "shared_config")
	w.fails(t, 2, "cannot be without", "", "config", "remove", "shared_config", "--autoconfirm")
	w.must(t, "nothing to do", "config", "remove", "shared_ifcs")
	w.change("shared_ifcs", "<SharedIFCsSets/>\n")
	w.fails(t, 1, "nothing was changed", "n\n", "config", "remove", "shared_ifcs")
	w.must(t, "is out of force", "config", "remove", "shared_ifcs", "--autoconfirm")
	if d := w.document("shared_ifcs"); d.Text != "" || d.Author != "anna" {
		t.Errorf("it is %+v", d)
	}
}
