package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/platformtest"
)

// The test binary is also the supervisor and the node that it supervises.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "supervise":
		os.Exit(local.Supervise(context.Background(), os.Args[2:], os.Stderr))
	case len(os.Args) > 2 && os.Args[1] == "--config-dir":
		standIn(os.Args[2])
	default:
		os.Exit(m.Run())
	}
}

// standIn is a node that writes its pid into its data folder, and ends when told to. It crashes if its settings say so.
func standIn(dir string) {
	settings, _ := os.ReadFile(filepath.Join(dir, config.UserFile))
	fmt.Println("the stand-in starts")
	if bytes.Contains(settings, []byte("crash")) {
		os.Exit(7)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	file, err := os.OpenFile(filepath.Join(dir, "../data/pids"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(1)
	}
	fmt.Fprintln(file, os.Getpid())
	<-stop
}

type world struct {
	root string
	pool netip.Prefix
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Deeper than the 108 bytes that a unix socket's path may have.
	root := filepath.Join(t.TempDir(), strings.Repeat("deep/", 20), "state")
	w := &world{root: root, pool: netip.MustParsePrefix("127.22.0.0/16")}
	t.Cleanup(func() {
		if left := w.processes(t); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the root is left: %v", err)
		}
	})
	return w
}

func (w *world) processes(t *testing.T) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if exe, err := os.Readlink("/proc/" + e.Name() + "/exe"); err == nil && strings.HasPrefix(exe, w.root) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (w *world) open(t *testing.T) platform.Platform {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := local.New(local.Config{Root: w.root, Addresses: w.pool, Supervisor: []string{self, "supervise"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// image is a copy of the test binary; extra bytes at its end change its digest and nothing else.
func image(t *testing.T, extra string) platform.Image {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	path := filepath.Join(t.TempDir(), "node")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, io.MultiReader(in, strings.NewReader(extra)))
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	sum, err := local.Digest(path)
	if err != nil {
		t.Fatal(err)
	}
	return platform.Image{Path: path, SHA256: sum}
}

func TestLocalPassesTheSuite(t *testing.T) {
	w := newWorld(t)
	platformtest.Run(t, platformtest.Subject{Open: w.open, Images: [2]platform.Image{image(t, ""), image(t, "x")}})
}

func (w *world) deploy(t *testing.T, name string) platform.Deployment {
	t.Helper()
	d, err := w.open(t).ApplyDeployment(t.Context(), platform.Deployment{ID: uuid.NewString(), Name: name, HomeDomain: "ims.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.open(t).DestroyDeployment(context.Background(), d.ID); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (w *world) node(t *testing.T, d platform.Deployment, settings string) platform.Node {
	t.Helper()
	network, err := w.open(t).ApplyNetwork(t.Context(), d.ID, platform.Network{Name: "core"})
	if err != nil {
		t.Fatal(err)
	}
	n := platform.Node{Name: "edge-1.site1", Role: config.Edge, Site: "site1", Index: 1, Address: network.CIDR.Addr().Next(), Incarnation: "i",
		Image: image(t, ""), Config: map[string]string{config.LocalFile: "a=b\n", config.UserFile: settings}}
	if err := w.open(t).ApplyNode(t.Context(), d.ID, n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) folder(name string) layout.Folder { return layout.Folder(filepath.Join(w.root, name)) }

// pids are those that a node's stand-in wrote, oldest first; waits until there are n.
func (w *world) pids(t *testing.T, deployment, node string, n int) []int {
	t.Helper()
	var out []int
	eventually(t, fmt.Sprintf("%d starts of %s", n, node), func() bool {
		text, _ := os.ReadFile(filepath.Join(w.folder(deployment).DataDir(node), "pids"))
		out = out[:0]
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return false
			}
			out = append(out, pid)
		}
		return len(out) >= n
	})
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("in 10 s not: %s", what)
		case <-tick.C:
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z"))
}

func (w *world) supervisor(t *testing.T, deployment string) int {
	t.Helper()
	text, err := os.ReadFile(w.folder(deployment).Lock())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed process is gone", func() bool { return !alive(pid) })
}

func TestKilledNodeIsBackWithinTwoSeconds(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "kill")
	n := w.node(t, d, "")
	first := w.pids(t, "kill", n.Name, 1)[0]
	began := time.Now()
	kill(t, first)
	w.pids(t, "kill", n.Name, 2)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCrashLoopBacksOff(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "crash")
	n := w.node(t, d, "crash")
	log := func() int {
		text, _ := os.ReadFile(w.folder("crash").Log(n.Name))
		return bytes.Count(text, []byte("starts"))
	}
	began := time.Now()
	eventually(t, "four starts", func() bool { return log() >= 4 })
	if took := time.Since(began); took < 500*time.Millisecond { // 100 + 200 + 400 ms of back-off
		t.Errorf("four starts took only %v", took)
	}
	text, err := w.open(t).(platform.Consoles).Console(t.Context(), d.ID, n.Name)
	if err != nil || !strings.Contains(text, "the stand-in starts") {
		t.Errorf("console %q, %v", text, err)
	}
}

func TestNodesOutliveTheirSupervisorAndAreTakenOver(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "over")
	n := w.node(t, d, "")
	pid := w.pids(t, "over", n.Name, 1)[0]
	kill(t, w.supervisor(t, "over"))
	seen, err := w.open(t).Reflect(t.Context(), d.ID)
	if err != nil || seen.Deployment.Running || len(seen.Nodes) != 1 || !seen.Nodes[0].Running {
		t.Fatalf("with the supervisor dead: %+v, %v", seen, err)
	}
	if _, err := w.open(t).ApplyDeployment(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	seen, err = w.open(t).Reflect(t.Context(), d.ID)
	if err != nil || !seen.Deployment.Running || !alive(pid) || len(w.pids(t, "over", n.Name, 1)) != 1 {
		t.Errorf("after: %+v, %v, node alive %v", seen, err, alive(pid))
	}
	kill(t, pid) // the new supervisor watches a process that is not its child
	w.pids(t, "over", n.Name, 2)
}

func TestEverythingKilledStartsAgainOnTheSameData(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "reboot")
	n := w.node(t, d, "")
	pid := w.pids(t, "reboot", n.Name, 1)[0]
	kill(t, w.supervisor(t, "reboot"))
	kill(t, pid)
	if _, err := w.open(t).ApplyDeployment(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if pids := w.pids(t, "reboot", n.Name, 2); pids[0] != pid {
		t.Errorf("the data is not the same: pids %v, the first was %d", pids, pid)
	}
}

func TestFolderDeletedByHandIsANodeGone(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "gone")
	n := w.node(t, d, "")
	pid := w.pids(t, "gone", n.Name, 1)[0]
	if err := os.RemoveAll(w.folder("gone").NodeDir(n.Name)); err != nil {
		t.Fatal(err)
	}
	seen, err := w.open(t).Reflect(t.Context(), d.ID)
	if err != nil || len(seen.Nodes) != 0 {
		t.Errorf("the node is still listed: %+v, %v", seen, err)
	}
	eventually(t, "the node without a folder ends", func() bool { return !alive(pid) })
}

func TestDestroyWithTheSupervisorDeadEndsTheNodes(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "orphan")
	n := w.node(t, d, "")
	pid := w.pids(t, "orphan", n.Name, 1)[0]
	kill(t, w.supervisor(t, "orphan"))
	if err := w.open(t).DestroyDeployment(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the node outlives its deployment")
	}
}

func TestDeploymentsSideBySideHaveBlocksOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.pool = netip.MustParsePrefix("127.22.200.0/23") // room for two
	a, b := w.deploy(t, "a"), w.deploy(t, "b")
	if a.DNSServer == b.DNSServer {
		t.Errorf("both at %s", a.DNSServer)
	}
	_, err := w.open(t).ApplyDeployment(t.Context(), platform.Deployment{ID: uuid.NewString(), Name: "c", HomeDomain: "c.example.com"})
	if err == nil || !strings.Contains(err.Error(), "no free block") {
		t.Errorf("a third one: %v", err)
	}
	if err := os.RemoveAll(string(w.folder("c"))); err != nil {
		t.Fatal(err)
	}
}

func TestOccupiedBlockIsNotTaken(t *testing.T) {
	w := newWorld(t)
	w.pool = netip.MustParsePrefix("127.22.202.0/24")
	d := w.deploy(t, "first") // learns the port that this user's name servers have
	server := d.DNSServer
	if err := w.open(t).DestroyDeployment(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	_, err = w.open(t).ApplyDeployment(t.Context(), platform.Deployment{ID: uuid.NewString(), Name: "second", HomeDomain: "c.example.com"})
	if err == nil || !strings.Contains(err.Error(), "no free block") {
		t.Errorf("got %v", err)
	}
	if err := os.RemoveAll(w.root); err != nil {
		t.Fatal(err)
	}
}

func TestNameServerAnswersForItsZoneOnly(t *testing.T) {
	w := newWorld(t)
	d := w.deploy(t, "dns")
	err := w.open(t).Publish(t.Context(), d.ID, platform.RecordSet{Owner: "o", Records: []platform.Record{
		{Name: "ims.example.com.", Type: "A", TTL: 5, Value: "127.0.0.9"},
		{Name: "_sip._udp.ims.example.com.", Type: "SRV", TTL: 5, Value: "1 1 5060 edge-1.site1.ims.example.com."},
		{Name: "edge-1.site1.ims.example.com.", Type: "A", TTL: 5, Value: "127.0.0.9"},
		{Name: "ims.example.com.", Type: "NAPTR", TTL: 5, Value: `1 1 "S" "SIP+D2U" "" _sip._udp.ims.example.com.`}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, tc := range []struct {
			name    string
			kind    uint16
			rcode   int
			answers int
			extra   int
		}{
			{"ims.example.com.", dns.TypeA, dns.RcodeSuccess, 1, 0},
			{"IMS.Example.COM.", dns.TypeNAPTR, dns.RcodeSuccess, 1, 0},
			{"_sip._udp.ims.example.com.", dns.TypeSRV, dns.RcodeSuccess, 1, 1},
			{"ims.example.com.", dns.TypeAAAA, dns.RcodeSuccess, 0, 0},
			{"site1.ims.example.com.", dns.TypeA, dns.RcodeSuccess, 0, 0}, // exists, since something is below it
			{"nobody.ims.example.com.", dns.TypeA, dns.RcodeNameError, 0, 0},
			{"example.org.", dns.TypeA, dns.RcodeRefused, 0, 0},
			{"ims.example.com.", dns.TypeAXFR, dns.RcodeRefused, 0, 0},
		} {
			client := dns.Client{Net: network, Timeout: 2 * time.Second}
			reply, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(tc.name, tc.kind), d.DNSServer)
			if err != nil {
				t.Fatal(err)
			}
			if reply.Rcode != tc.rcode || len(reply.Answer) != tc.answers || len(reply.Extra) != tc.extra {
				t.Errorf("%s %s %s:\n%s", network, tc.name, dns.TypeToString[tc.kind], reply)
			}
		}
	}
}
