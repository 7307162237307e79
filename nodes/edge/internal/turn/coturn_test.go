package turn

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// coturn's own client, which shares no code with the server, allocates, binds channels, refreshes and sends media through
// relays over UDP, TCP and TLS; with a wrong password it gets nowhere. The tool is from Debian's coturn package
// (scripts/need.sh turnutils_uclient).
func TestCoturnClient(t *testing.T) {
	tool, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		t.Fatalf("%v: scripts/need.sh turnutils_uclient makes it available", err)
	}
	w := start(t, func(_ *Config, l *Limits) { l.Secret = "shared"; l.PerUser = 100 })
	echo := peer(t, "127.33.1.30")
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(buf[:n], from)
		}
	}()
	at := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
	run := func(kind string, flags ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		args := append(slices.Clone(flags), "-c", "-n", "20", "-z", "5", "-l", "170", "-p", port(w.server.Addresses()[kind]),
			"-L", "127.33.1.31", "-e", at(echo.LocalAddr()).Addr().String(), "-r", port(echo.LocalAddr()), serverIP)
		out, err := exec.CommandContext(ctx, tool, args...).CombinedOutput()
		return string(out), err
	}
	good := []string{"-u", "alice@ims.test", "-w", "secret"}
	var group sync.WaitGroup
	for name, c := range map[string]struct {
		kind  string
		flags []string
		sent  string
	}{
		"udp":          {"udp", good, "20"},
		"indications":  {"udp", append([]string{"-s"}, good...), "20"},
		"tcp":          {"tcp", append([]string{"-t"}, good...), "20"},
		"tls":          {"tls", append([]string{"-t", "-S"}, good...), "20"},
		"short-lived":  {"udp", []string{"-u", "carol", "-W", "shared"}, "20"},
		"escaped name": {"udp", []string{"-u", "6505550000%40ims.test", "-w", "escaped"}, "20"},
		"several":      {"udp", append([]string{"-m", "5"}, good...), "100"},
	} {
		group.Go(func() {
			out, err := run(c.kind, c.flags...)
			if err != nil || !strings.Contains(out, "Total lost packets 0 (0.000000%)") || !strings.Contains(out, "tot_send_msgs="+c.sent+", tot_recv_msgs="+c.sent) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		})
	}
	group.Go(func() {
		if out, err := run("udp", "-u", "bob@ims.test", "-w", "wrong"); err == nil || !strings.Contains(out, "Cannot complete Allocation") {
			t.Errorf("with a wrong password: %v\n%s", err, out)
		}
	})
	group.Wait()
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}
