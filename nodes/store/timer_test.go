package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestTimersSurviveKills sets timers, kills the store several times while they are set and popped, and expects every
// acknowledged timer to pop, under the sequence number 1.
func TestTimersSurviveKills(t *testing.T) {
	const address, rounds, each = "127.20.2.1", 3, 40
	l := newLab(t, address)
	var mu sync.Mutex
	popped := map[string]string{} // opaque -> sequence number
	ln, err := net.Listen("tcp", address+":0")
	l.must(err)
	callback := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		popped[string(body)] = r.Header.Get("X-Sequence-Number")
	})}
	go func() { _ = callback.Serve(ln) }()
	t.Cleanup(func() { _ = callback.Close() })

	l.start()
	l.bootstrap(shared(address + ":9888"))
	l.ready()
	acknowledged := map[string]bool{}
	for round := range rounds {
		for n := range each {
			opaque := fmt.Sprint(round, ".", n)
			if err := setTimer(t, address, "http://"+ln.Addr().String()+"/pop", opaque); err != nil {
				t.Fatal(err)
			}
			acknowledged[opaque] = true
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 4 { // others are being set when the store dies
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					opaque := fmt.Sprint(round, "w", w, ".", n)
					if setTimer(t, address, "http://"+ln.Addr().String()+"/pop", opaque) == nil {
						mu.Lock()
						acknowledged[opaque] = true
						mu.Unlock()
					}
				}
			})
		}
		<-time.After(300 * time.Millisecond) // load, not synchronisation
		l.kill()
		close(stop)
		wg.Wait()
		l.start()
		l.ready()
	}
	l.eventually(20*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		for opaque := range acknowledged {
			switch popped[opaque] {
			case "1":
			case "":
				return errors.New("timer " + opaque + " did not pop")
			default:
				t.Errorf("timer %s popped first with number %s", opaque, popped[opaque])
			}
		}
		return nil
	})
	t.Logf("%d timers, every one popped", len(acknowledged))
}

func setTimer(t *testing.T, address, uri, opaque string) error {
	body := fmt.Sprintf(`{"timing":{"interval":1},"callback":{"http":{"uri":%q,"opaque":%q}}}`, uri, opaque)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+":7253/timers", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Location") == "" {
		return fmt.Errorf("answer %s", resp.Status)
	}
	return nil
}
