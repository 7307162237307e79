// Package torture tests a running edge with bad input: the messages of RFC 4475, cut and huge ones, connections that are slow,
// half open or idle, senders who claim to be somebody, and circles. The right answer or silence, never a crash; and what the
// nodes hold afterwards is what they held before.
package torture

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/phone"
)

var shared *deployment.Deployment //nolint:gochecknoglobals // of this test binary

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	return deployment.Main(m, "torture", nil, func(d *deployment.Deployment) { shared = d })
}

// expectation is a line of testdata/rfc4475.tsv: the status of the answer or - for silence, over UDP, TCP and WebSocket.
type expectation struct{ name, udp, tcp, ws, why string }

func expectations(t *testing.T) (out []expectation) {
	t.Helper()
	file, err := os.Open("testdata/rfc4475.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Split(lines.Text(), "\t")
		if strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 5 {
			t.Fatalf("rfc4475.tsv: %q has %d columns, 5 are needed", f[0], len(f))
		}
		out = append(out, expectation{f[0], f[1], f[2], f[3], f[4]})
	}
	files, _ := filepath.Glob("testdata/rfc4475/*.dat")
	if len(files) != len(out) {
		t.Fatalf("%d files, %d expectations", len(files), len(out))
	}
	return out
}

// silence is how long nothing has to come.
const silence = 1500 * time.Millisecond

// TestTortureMessages sends the messages of RFC 4475 to the edge as a stranger, over UDP, TCP and WebSocket.
func TestTortureMessages(t *testing.T) {
	w := watch(t)
	t.Run("messages", func(t *testing.T) {
		for i, e := range expectations(t) {
			text, err := os.ReadFile(filepath.Join("testdata", "rfc4475", e.name+".dat"))
			if err != nil {
				t.Fatal(err)
			}
			for transport, c := range map[string]struct {
				want string
				send func(*testing.T, int, string, []byte) string
			}{"udp": {e.udp, overUDP}, "tcp": {e.tcp, overTCP}, "ws": {e.ws, overWebSocket}} {
				t.Run(e.name+"/"+transport, func(t *testing.T) {
					t.Parallel()
					if got := c.send(t, i, e.name, own(text, e.name, transport)); got != c.want {
						t.Errorf("%s over %s is answered by %s, want %s (%s)", e.name, transport, got, c.want, e.why)
					}
				})
			}
		}
	})
	w.unharmed(t)
}

// own makes a transaction of its own for each transport of a message that is sent over all of them; nothing else changes.
func own(text []byte, name, transport string) []byte {
	text = bytes.ReplaceAll(text, []byte(name+"."), []byte(name+transport+".")) // every Call-ID begins like that
	if name == "badbranch" {
		return text // is about having no more than the cookie
	}
	return bytes.Replace(text, []byte("z9hG4bK"), []byte("z9hG4bK"+transport+name), 1)
}

// overUDP sends from the port that the message's Via tells, because few of the messages have rport.
func overUDP(t *testing.T, n int, name string, text []byte) string {
	port := 5060
	if name == "quotbal" {
		port = 5050
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 35, 1, byte(n+1)), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	edge, err := net.ResolveUDPAddr("udp4", shared.Address("edge-1")+":5060")
	if err == nil {
		_, err = conn.WriteToUDP(text, edge)
	}
	if err != nil {
		t.Fatal(err)
	}
	return statuses(conn)
}

func overTCP(t *testing.T, _ int, _ string, text []byte) string {
	conn := dial(t)
	if _, err := conn.Write(text); err != nil {
		t.Fatal(err)
	}
	return statuses(conn)
}

// dial opens a TCP connection to the edge; it closes at the end of the test.
func dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", shared.Address("edge-1")+":5060", 5*time.Second)
	if err != nil {
		t.Fatalf("connecting to the edge: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func overWebSocket(t *testing.T, _ int, _ string, text []byte) string {
	conn := dialWebSocket(t)
	if err := conn.Write(t.Context(), websocket.MessageBinary, text); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), silence)
	defer cancel()
	var got []string
	for {
		_, answer, err := conn.Read(ctx)
		if err != nil {
			return list(got)
		}
		got = append(got, firsts(string(answer))...)
	}
}

func dialWebSocket(t *testing.T) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+shared.Address("edge-1")+":5062", &websocket.DialOptions{Subprotocols: []string{"sip"}}) //nolint:bodyclose // it is the connection's
	if err != nil {
		t.Fatalf("connecting to the edge: %v", err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// statuses reads answers until nothing comes: their statuses, without 100 and repetitions, "-" for none.
func statuses(conn net.Conn) string {
	_ = conn.SetReadDeadline(time.Now().Add(silence))
	var got []string
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return list(got)
		}
		got = append(got, firsts(string(buffer[:n]))...)
	}
}

func firsts(text string) (out []string) {
	for line := range strings.SplitSeq(text, "\r\n") {
		if rest, ok := strings.CutPrefix(line, "SIP/2.0 "); ok && !strings.HasPrefix(rest, "100") {
			out = append(out, rest[:3])
		}
	}
	return out
}

func list(got []string) string {
	var out []string
	for i, s := range got {
		if i == 0 || got[i-1] != s {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ",")
}

// marks is what the edge and the router held before.
type marks map[string]mark

type mark struct{ pid, goroutines, memory int }

func watch(t *testing.T) marks {
	t.Helper()
	m := marks{}
	for _, node := range []string{"edge-1.site1", "router-1.site1"} {
		pid, err := shared.Process(node)
		if err != nil {
			t.Fatal(err)
		}
		m[node] = mark{pid, shared.Gauge(t.Context(), node, "go_goroutines"), shared.Gauge(t.Context(), node, "process_resident_memory_bytes")}
	}
	return m
}

const (
	moreGoroutines = 20
	moreMemory     = 64 << 20 // the garbage collector's liberty
)

// unharmed checks that the processes are the same, serve a phone, and come back to what they held.
func (m marks) unharmed(t *testing.T) {
	t.Helper()
	p := phone.Subscriber(t, shared, "")
	p.Start()
	if answer := p.Register(60); answer.Status() != 200 {
		t.Errorf("a phone that registers afterwards gets\n%s", answer.Raw)
	}
	for node, before := range m {
		if pid, err := shared.Process(node); err != nil || pid != before.pid {
			t.Fatalf("%s was process %d, is %d: %v", node, before.pid, pid, err)
		}
		deadline := time.Now().Add(60 * time.Second)
		for {
			goroutines, memory := shared.Gauge(t.Context(), node, "go_goroutines"), shared.Gauge(t.Context(), node, "process_resident_memory_bytes")
			held, err := shared.Held(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			if goroutines <= before.goroutines+moreGoroutines && memory <= before.memory+moreMemory && held["transactions"] == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s had %d goroutines and %d MB, it has %d and %d MB, and %d transactions", node, before.goroutines, before.memory>>20, goroutines, memory>>20, held["transactions"])
			}
			<-time.After(time.Second)
		}
	}
}
