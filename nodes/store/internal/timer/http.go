package timer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

const maxBody = 1 << 20

// idPattern is an id and, behind it, whatever: a replication factor is used, the rest is passed over.
var idPattern = regexp.MustCompile(`^([0-9a-fA-F]{16})(?:-([0-9]+))?`)

// Handler serves the public HTTP interface:
//
//	POST   /timers       sets a timer: 200 with its Location
//	PUT    /timers/<id>  sets it anew, or under this id: 200 with its Location
//	DELETE /timers/<id>  ends it: 200, whether it was there or not
//
// 400 carries the reason as text; a path that names no timer is 404, another method 405, an engine that cannot be
// written to 503.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/timers", s.collection)
	mux.HandleFunc("/timers/{$}", s.collection)
	mux.HandleFunc("/timers/{id...}", s.one)
	return mux
}

func (s *Service) collection(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		notAllowed(w, http.MethodPost)
		return
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	s.set(w, r, hex.EncodeToString(id[:]), 0)
}

func (s *Service) one(w http.ResponseWriter, r *http.Request) {
	m := idPattern.FindStringSubmatch(r.PathValue("id"))
	if m == nil {
		http.Error(w, "there is no such timer: an id is 16 hexadecimal digits", http.StatusNotFound)
		return
	}
	id := strings.ToLower(m[1])
	switch r.Method {
	case http.MethodPut:
		replicas := uint64(0)
		if m[2] != "" {
			var err error
			if replicas, err = strconv.ParseUint(m[2], 10, 32); err != nil || replicas < 1 || replicas > maxReplicas {
				http.Error(w, fmt.Sprintf("the id's replication factor %s is not from 1 to %d", m[2], maxReplicas), http.StatusBadRequest)
				return
			}
		}
		s.set(w, r, id, uint32(replicas)) //nolint:gosec // at most maxReplicas
	case http.MethodDelete:
		if err := s.Delete(r.Context(), id); err != nil {
			s.unavailable(w, r, err)
		}
	default:
		notAllowed(w, http.MethodPut+", "+http.MethodDelete)
	}
}

func (s *Service) set(w http.ResponseWriter, r *http.Request, id string, replicas uint32) {
	t, err := parse(http.MaxBytesReader(w, r.Body, maxBody), replicas)
	if err != nil {
		code := http.StatusBadRequest
		if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), code)
		return
	}
	t.Id = id
	if err := s.Set(r.Context(), t); err != nil {
		s.unavailable(w, r, err)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/timers/%s-%d", id, t.GetReplicas()))
	w.WriteHeader(http.StatusOK)
}

func (s *Service) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.log.Error("a timer request", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	http.Error(w, "the timer store cannot be used now", http.StatusServiceUnavailable)
}

func notAllowed(w http.ResponseWriter, allowed string) {
	w.Header().Set("Allow", allowed)
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
}

// HTTPPop delivers pops with an HTTP client.
func HTTPPop(client *http.Client) Pop {
	return func(ctx context.Context, uri string, opaque []byte, sequence uint32) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(string(opaque)))
		if err != nil {
			return fmt.Errorf("preparing the callback: %w", err)
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("X-Sequence-Number", strconv.FormatUint(uint64(sequence), 10))
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("calling back: %w", err)
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the callback was answered with %s", resp.Status)
		}
		return nil
	}
}
