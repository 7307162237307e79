package load

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// capture is a packet capture of what the routers' S-CSCF port and the edges' core port say to each other.
type capture struct {
	t    *testing.T
	cmd  *exec.Cmd
	path string
}

// startCapture captures on the loopback interface. That takes root; an ordinary user gets nil, and the node's own count
// of transactions is the bound instead.
func startCapture(t *testing.T, network string) *capture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("figures: no capture without root: the router's own count of transactions bounds what the kill may cost")
		return nil
	}
	c := &capture{t: t, path: filepath.Join(t.TempDir(), "capture")}
	out, err := os.Create(c.path)
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command("tshark", "-i", "lo", "-f", "net "+network+".0/24 and tcp and (port 5054 or port 5058)", "-n", "-l",
		"-d", "tcp.port==5054,sip", "-d", "tcp.port==5058,sip", "-Y", "sip", "-T", "fields", "-E", "separator=;", "-E", "occurrence=a", "-E", "aggregator=,",
		"-e", "frame.time_epoch", "-e", "ip.src", "-e", "ip.dst", "-e", "tcp.srcport", "-e", "tcp.dstport",
		"-e", "sip.Call-ID", "-e", "sip.CSeq.method", "-e", "sip.Status-Code")
	c.cmd.Stdout = out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("starting tshark (Debian package tshark): %v", err)
	}
	t.Cleanup(c.stop)
	return c
}

func (c *capture) stop() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Signal(syscall.SIGINT)
		_ = c.cmd.Wait()
	}
}

// pending counts the calls that had a request without a final response at a node at a moment.
func (c *capture) pending(node string, at time.Time) int {
	c.t.Helper()
	c.stop()
	file, err := os.Open(c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer file.Close()
	open := map[string]string{} // Call-ID, method and side of the node -> Call-ID
	frames := 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ";")
		if len(f) != 8 || (f[1] != node && f[2] != node) {
			continue
		}
		if when, err := strconv.ParseFloat(f[0], 64); err != nil || when > float64(at.UnixMicro())/1e6 {
			continue
		}
		frames++
		side := "to the caller"
		if f[3] == "5058" || f[4] == "5058" {
			side = "to the called"
		}
		note(open, side, strings.Split(f[5], ","), strings.Split(f[6], ","), f[7])
	}
	if frames == 0 {
		c.t.Fatalf("the capture holds nothing of %s", node)
	}
	calls := map[string]bool{}
	for _, id := range open {
		calls[id] = true
	}
	return len(calls)
}

// note enters the messages of one frame; those of one frame are all requests or all responses.
func note(open map[string]string, side string, ids, methods []string, statuses string) {
	var codes []string
	if statuses != "" {
		codes = strings.Split(statuses, ",")
	}
	for i, id := range ids {
		if i >= len(methods) || methods[i] == "ACK" {
			continue
		}
		key := id + " " + methods[i] + " " + side
		switch {
		case codes == nil:
			open[key] = id
		case i < len(codes) && codes[i] >= "200":
			delete(open, key)
		}
	}
}
