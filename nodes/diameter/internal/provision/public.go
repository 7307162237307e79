package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
)

const (
	pageSize   = 500         // identities of one question to the store
	chunkPause = time.Second // between pages when the caller asks for chunks, to spare the store
	writeLimit = 30 * time.Second
)

// public finds the identity that the path names.
func (a *api) public(r *http.Request) (subscribers.Found, error) {
	key, err := subscribers.Key(r.PathValue("impu"))
	if err != nil {
		return subscribers.Found{}, fmt.Errorf("%w: %w", subscribers.ErrNotFound, err)
	}
	return a.db.Public(r.Context(), key)
}

func (a *api) publicProfile(r *http.Request) (answer, error) {
	f, err := a.public(r)
	return answer{status: http.StatusSeeOther, location: profilePath(f.Set.GetId(), f.Profile.GetId())}, err
}

func (a *api) publicSet(r *http.Request) (answer, error) {
	f, err := a.public(r)
	return answer{status: http.StatusSeeOther, location: "/irs/" + f.Set.GetId()}, err
}

func (a *api) publicPrivates(r *http.Request) (answer, error) {
	f, err := a.public(r)
	return answer{json: map[string][]string{"private_ids": append([]string{}, f.Set.GetPrivateIds()...)}}, err
}

// listing is what the query of a listing asks for.
type listing struct {
	withoutIDs bool
	parts      uint32 // chunk-proportion; 0 = not given
	part       int64  // chunk; -1 = all of them
}

func parseListing(q url.Values) (l listing, err error) {
	l.part = -1
	if text := q.Get("excludeuuids"); text != "" {
		if l.withoutIDs, err = strconv.ParseBool(text); err != nil {
			return l, fmt.Errorf("excludeuuids is %q, allowed are true and false", text)
		}
	}
	if text := q.Get("chunk-proportion"); text != "" {
		parts, err := strconv.ParseUint(text, 10, 16)
		if err != nil || parts == 0 {
			return l, fmt.Errorf("chunk-proportion is %q, allowed is a whole number from 1 to 65535", text)
		}
		l.parts = uint32(parts)
	}
	if text := q.Get("chunk"); text != "" {
		if l.parts == 0 {
			l.parts = 256
		}
		if l.part, err = strconv.ParseInt(text, 10, 32); err != nil || l.part < 0 || l.part >= int64(l.parts) {
			return l, fmt.Errorf("chunk is %q, allowed is a whole number from 0 to %d", text, l.parts-1)
		}
	}
	return l, nil
}

// wants tells whether an identity is in the chunk that was asked for.
func (l listing) wants(uri string) bool {
	if l.part < 0 {
		return true
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, uri) // a hash takes everything
	return int64(h.Sum32()%l.parts) == l.part
}

// list streams public identities: {"public_ids":[...]}. All chunks together (chunk-proportion without chunk) come
// with a pause after each page. A failure in the middle cuts the connection, so that nobody takes a part for all.
func (a *api) list(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	page, last, more, err := a.db.List(r.Context(), "", pageSize)
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	out := &stream{w: w, control: http.NewResponseController(w), separator: `{"public_ids":[`}
	for {
		for _, found := range page {
			if l.wants(found.URI) {
				out.add(found, l.withoutIDs)
			}
		}
		if !more || out.err != nil {
			break
		}
		out.flush()
		if l.parts > 0 && l.part < 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(chunkPause):
			}
		}
		if page, last, more, err = a.db.List(r.Context(), last, pageSize); err != nil {
			panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to cut an answer short
		}
	}
	out.end()
}

// stream writes a listing piece by piece.
type stream struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	separator string
	err       error
}

func (s *stream) write(text []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(text)
	}
}

func (s *stream) add(l subscribers.Listed, withoutIDs bool) {
	item := struct {
		PublicID string `json:"public_id"`
		Profile  string `json:"sp,omitempty"`
		Set      string `json:"irs,omitempty"`
	}{PublicID: l.URI}
	if !withoutIDs {
		item.Profile, item.Set = l.Profile, l.Set
	}
	text, err := json.Marshal(item)
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	s.write([]byte(s.separator))
	s.separator = ","
	s.write(text)
}

// flush sends what there is; a caller who does not read for long is given up.
func (s *stream) flush() {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeLimit)) // not supported by test recorders
	if err := s.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.err = errors.Join(s.err, err)
	}
}

func (s *stream) end() {
	if s.separator != "," {
		s.write([]byte(s.separator))
	}
	s.write([]byte("]}\n"))
}
