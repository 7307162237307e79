package softphone

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

// baresip is a phone that runs. It plays a tone and records what it hears.
type baresip struct {
	t      *testing.T
	name   string
	tone   float64 // Hz
	folder string
	cmd    *exec.Cmd
	conn   net.Conn
	mu     sync.Mutex
	events []event
	taken  int
	news   chan struct{}
}

// event is what it tells on its control connection.
type event struct {
	Event              bool
	Class, Type        string
	Param, PeerURI     string
	Response, OK       bool
	Data, Token, Cause string
}

var serial atomic.Int64 //nolint:gochecknoglobals // gives every phone a number and an address of its own

const sampleRate = 8000

func (b *baresip) uri() string { return "sip:" + b.name + "@" + shared.Domain }

// start provisions a subscriber and starts the phone on a transport (udp, tcp, tls); it registers by itself.
func start(t *testing.T, transport string, tone float64) *baresip {
	t.Helper()
	n := serial.Add(1)
	b := &baresip{t: t, name: fmt.Sprintf("65052%05d", n), tone: tone, folder: t.TempDir(), news: make(chan struct{})}
	password := "secret-" + b.name
	err := shared.Provisioning().CreateSubscriber(t.Context(), provisioning.Subscriber{
		PublicIDs: []string{b.uri()}, PrivateID: b.name + "@" + shared.Domain, Realm: shared.Domain, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	host := fmt.Sprintf("%s.%d", shared.Network(), 220+n%20)
	control := b.configure(host, transport, password)
	b.cmd = exec.Command("baresip", "-f", b.folder)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(b.folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		t.Fatalf("starting baresip: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = b.cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		if b.conn != nil {
			b.command("quit", "") // it deregisters
		}
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			_ = b.cmd.Process.Kill()
			<-ended
		}
		if b.conn != nil {
			_ = b.conn.Close()
		}
	})
	b.connect(control)
	return b
}

// configure writes configuration, account and tone; it returns where the phone takes commands.
func (b *baresip) configure(host, transport, password string) (control string) {
	b.t.Helper()
	control = host + ":4444"
	port := 5060
	if transport == "tls" {
		port = 5061
	}
	lines := []string{
		"module_path " + modules(b.t), "sip_listen " + host + ":5090", "net_interface " + host, "ctrl_tcp_listen " + control, "dns_server " + shared.NameServer,
		"audio_source aufile," + filepath.Join(b.folder, "tone.wav"), "audio_player aubridge,ear", "audio_alert aubridge,bell", "snd_path " + b.folder,
		"ausrc_srate 8000", "auplay_srate 8000", "ausrc_channels 1", "auplay_channels 1",
		"module g711.so", "module aufile.so", "module aubridge.so", "module sndfile.so", "module uuid.so", "module_app account.so", "module_app menu.so", "module_app ctrl_tcp.so",
	}
	account := fmt.Sprintf(`<%s;transport=%s>;auth_user=%s@%s;auth_pass=%s;outbound="sip:%s:%d;transport=%s";regint=300;answermode=auto;audio_codecs=pcma`,
		b.uri(), transport, b.name, shared.Domain, password, shared.Address("edge-1"), port, transport)
	for name, text := range map[string]string{"config": strings.Join(lines, "\n") + "\n", "accounts": account + "\n", "tone.wav": wav(b.tone)} {
		if err := os.WriteFile(filepath.Join(b.folder, name), []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return control
}

// modules is the folder of the phone's modules: of the machine, or where scripts/need.sh has unpacked them.
func modules(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("baresip")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"/usr/lib/baresip/modules", filepath.Join(filepath.Dir(path), "..", "root", "usr", "lib", "baresip", "modules")} {
		if _, err := os.Stat(folder); err == nil {
			return folder
		}
	}
	t.Fatal("the modules of baresip are missing")
	return ""
}

// wav is two minutes of a sine.
func wav(tone float64) string {
	const seconds = 120
	var b strings.Builder
	size := seconds * sampleRate * 2
	b.WriteString("RIFF")
	for _, part := range []any{uint32(36 + size), [8]byte([]byte("WAVEfmt ")), uint32(16), uint16(1), uint16(1), uint32(sampleRate), uint32(2 * sampleRate), uint16(2), uint16(16),
		[4]byte([]byte("data")), uint32(size)} {
		_ = binary.Write(&b, binary.LittleEndian, part)
	}
	samples := make([]int16, seconds*sampleRate)
	for i := range samples {
		samples[i] = int16(12000 * math.Sin(2*math.Pi*tone*float64(i)/sampleRate))
	}
	_ = binary.Write(&b, binary.LittleEndian, samples)
	return b.String()
}

// connect connects to the phone's control port, which speaks JSON in netstrings.
func (b *baresip) connect(control string) {
	b.t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if b.conn, err = net.Dial("tcp4", control); err == nil {
			break
		}
	}
	if err != nil {
		b.t.Fatalf("baresip takes no commands: %v\n%s", err, b.log())
	}
	go func() {
		in := bufio.NewReader(b.conn)
		for {
			length, err := in.ReadString(':')
			if err != nil {
				return
			}
			n, _ := strconv.Atoi(strings.TrimSuffix(length, ":"))
			text := make([]byte, n+1)
			if _, err := io.ReadFull(in, text); err != nil {
				return
			}
			var e event
			if json.Unmarshal(text[:n], &e) != nil {
				continue
			}
			b.mu.Lock()
			b.events = append(b.events, e)
			close(b.news)
			b.news = make(chan struct{})
			b.mu.Unlock()
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(b.log(), "200 OK () [1 binding]"); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("baresip does not register:\n%s", b.log())
		}
	}
}

func (b *baresip) command(name, params string) {
	b.t.Helper()
	text, _ := json.Marshal(map[string]string{"command": name, "params": params})
	if _, err := fmt.Fprintf(b.conn, "%d:%s,", len(text), text); err != nil {
		b.t.Fatalf("%s: %v", name, err)
	}
}

// expect waits for an event behind the last one that was waited for.
func (b *baresip) expect(kind string) event {
	b.t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		b.mu.Lock()
		for i := b.taken; i < len(b.events); i++ {
			if b.events[i].Type == kind {
				b.taken = i + 1
				e := b.events[i]
				b.mu.Unlock()
				return e
			}
		}
		news := b.news
		b.mu.Unlock()
		select {
		case <-news:
		case <-deadline:
			b.t.Fatalf("%s: no %s; its events are %+v\n%s", b.name, kind, b.events, b.log())
		}
	}
}

func (b *baresip) log() string {
	text, _ := os.ReadFile(filepath.Join(b.folder, "log"))
	return string(text)
}

// heard is how much of the loudness of a recording is at a frequency (Goertzel), from 0 to 1, and how long it is.
func (b *baresip) heard(tone float64) (part float64, length time.Duration) {
	b.t.Helper()
	files, _ := filepath.Glob(filepath.Join(b.folder, "dump-*-dec.wav"))
	if len(files) == 0 {
		return 0, 0
	}
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil || len(text) < 44 {
		return 0, 0
	}
	n := (len(text) - 44) / 2
	energy, s1, s2 := 0.0, 0.0, 0.0
	k := 2 * math.Cos(2*math.Pi*tone/sampleRate)
	for i := range n {
		v := float64(int16(binary.LittleEndian.Uint16(text[44+2*i:]))) //nolint:gosec // samples are signed
		energy += v * v
		s1, s2 = v+k*s1-s2, s1
	}
	if energy == 0 {
		return 0, 0
	}
	return (s1*s1 + s2*s2 - k*s1*s2) / (energy * float64(n) / 2), time.Duration(n) * time.Second / sampleRate
}

// size is how much of the call is recorded, in bytes.
func (b *baresip) size() (n int64) {
	files, _ := filepath.Glob(filepath.Join(b.folder, "dump-*-dec.wav"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			n = info.Size()
		}
	}
	return n
}
