package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// chromium is a headless browser that is steered by the DevTools protocol.
type chromium struct {
	t    *testing.T
	cmd  *exec.Cmd
	conn *websocket.Conn
	mu   sync.Mutex
	next int
	open map[int]chan reply
}

type reply struct {
	ID     int
	Result json.RawMessage
	Error  *struct{ Message string }
	Method string
	Params json.RawMessage
}

// launch starts the browser. It looks up no names and calls nobody; microphones are made up; and it takes loopback
// addresses for media.
func launch(t *testing.T) *chromium {
	t.Helper()
	c := &chromium{t: t, open: map[int]chan reply{}}
	c.cmd = exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
		"--remote-debugging-address=127.0.0.1", "--user-data-dir="+t.TempDir(), "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
		"--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection", "--ignore-certificate-errors", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--no-first-run", "--no-default-browser-check", "--disable-breakpad",
		"--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter,Translate", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*", "--no-proxy-server", "about:blank")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StderrPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		_ = c.cmd.Wait()
	})
	c.connect(out)
	return c
}

// connect reads where the browser listens and connects.
func (c *chromium) connect(out io.Reader) {
	c.t.Helper()
	lines := bufio.NewScanner(out)
	said, url := "", ""
	for url == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if _, after, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
			url = after
		}
	}
	if url == "" {
		c.t.Fatalf("chromium says\n%s", said)
	}
	go func() {
		for lines.Scan() { // lest its pipe fills
		}
	}()
	conn, resp, err := websocket.Dial(c.t.Context(), url, nil)
	if err != nil {
		c.t.Fatalf("connecting to chromium: %v", err)
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	conn.SetReadLimit(16 << 20)
	c.conn = conn
	go c.read()
}

func (c *chromium) read() {
	for {
		_, text, err := c.conn.Read(context.Background())
		if err != nil {
			return
		}
		var r reply
		if json.Unmarshal(text, &r) != nil || r.ID == 0 {
			continue
		}
		c.mu.Lock()
		waiting := c.open[r.ID]
		delete(c.open, r.ID)
		c.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
}

// send calls a method of the protocol.
func (c *chromium) send(session, method string, params, result any) error {
	c.mu.Lock()
	c.next++
	id, answer := c.next, make(chan reply, 1)
	c.open[id] = answer
	c.mu.Unlock()
	text, err := json.Marshal(map[string]any{"id": id, "sessionId": session, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageText, text); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// page is a page in a context of its own, as if another person had it.
type page struct {
	browser *chromium
	session string
}

func (c *chromium) page(url string) *page {
	c.t.Helper()
	var context struct{ BrowserContextID string }
	var target struct{ TargetID string }
	var attached struct{ SessionID string }
	err := errors.Join(
		c.send("", "Target.createBrowserContext", map[string]any{}, &context),
		c.send("", "Target.createTarget", map[string]any{"url": url, "browserContextId": context.BrowserContextID}, &target),
	)
	if err == nil {
		err = c.send("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	}
	if err != nil {
		c.t.Fatalf("opening %s: %v", url, err)
	}
	p := &page{c, attached.SessionID}
	state := ""
	for deadline := time.Now().Add(20 * time.Second); state != "complete function object"; <-time.After(50 * time.Millisecond) {
		if err := p.eval("document.readyState + ' ' + typeof start + ' ' + typeof JsSIP", &state); err != nil {
			state = err.Error()
		}
		if time.Now().After(deadline) {
			var text string
			_ = p.eval("document.documentElement.innerText.slice(0, 500)", &text)
			c.t.Fatalf("%s is not loaded: %s\n%s", url, state, text)
		}
	}
	return p
}

// eval evaluates an expression and awaits it if it is a promise.
func (p *page) eval(expression string, result any) error {
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	params := map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}
	if err := p.browser.send(p.session, "Runtime.evaluate", params, &r); err != nil {
		return err
	}
	if r.ExceptionDetails != nil {
		return fmt.Errorf("%s %s", r.ExceptionDetails.Text, r.ExceptionDetails.Exception.Description)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Result.Value, result)
}

func (p *page) must(expression string, result any) {
	p.browser.t.Helper()
	if err := p.eval(expression, result); err != nil {
		var seen []string
		_ = p.eval("seen", &seen)
		p.browser.t.Fatalf("%s: %v; the page has seen %v", expression, err, seen)
	}
}

func within(t *testing.T, d time.Duration, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !check(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, d)
		}
	}
}
