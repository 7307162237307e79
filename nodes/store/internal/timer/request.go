package timer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
)

// Limits of a request; what is beyond is answered with 400.
const (
	maxSeconds      = 1 << 30
	maxReplicas     = 64
	maxTagTypes     = 32
	maxTagLength    = 64
	defaultReplicas = 2
)

// request is the JSON body of POST and PUT.
type request struct {
	Timing struct {
		Interval  *int64 `json:"interval"`
		RepeatFor *int64 `json:"repeat-for"`
	} `json:"timing"`
	Callback struct {
		HTTP struct {
			URI    *string `json:"uri"`
			Opaque *string `json:"opaque"`
		} `json:"http"`
	} `json:"callback"`
	Reliability struct {
		ReplicationFactor *int64 `json:"replication-factor"`
	} `json:"reliability"`
	Statistics struct {
		TagInfo []struct {
			Type  *string `json:"type"`
			Count *int64  `json:"count"`
		} `json:"tag-info"`
	} `json:"statistics"`
}

// parse reads a body. replicas is what the id in the path says, 0 if it says nothing. The error says what is wrong in
// words for the sender.
func parse(body io.Reader, replicas uint32) (*Timer, error) {
	var r request
	dec := json.NewDecoder(body)
	if err := dec.Decode(&r); err != nil {
		return nil, describe(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the JSON object")
	}
	t := &Timer{Replicas: replicas}
	return t, errors.Join(r.timing(t), r.callback(t), r.replicas(t), r.tags(t))
}

func describe(err error) error {
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("the body must be a JSON object, not a JSON %s", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("%s must not be a JSON %s", wrong.Field, wrong.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("the body is not JSON: %w (at byte %d)", err, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the body is not JSON: it ends too early")
	}
	return fmt.Errorf("reading the body: %w", err)
}

func (r *request) timing(t *Timer) error {
	interval, repeat := r.Timing.Interval, r.Timing.RepeatFor
	if interval == nil {
		return errors.New("timing.interval is missing: a whole number of seconds")
	}
	if repeat == nil {
		repeat = interval
	}
	for name, n := range map[string]int64{"interval": *interval, "repeat-for": *repeat} {
		if n < 0 || n > maxSeconds {
			return fmt.Errorf("timing.%s is %d: it must be from 0 to %d seconds", name, n, maxSeconds)
		}
	}
	if *interval == 0 && *repeat != 0 {
		return errors.New("timing.interval is 0 while timing.repeat-for is not")
	}
	t.Interval, t.RepeatFor = uint32(*interval), uint32(*repeat)
	return nil
}

func (r *request) callback(t *Timer) error {
	uri, opaque := r.Callback.HTTP.URI, r.Callback.HTTP.Opaque
	if uri == nil || opaque == nil {
		return errors.New("callback.http needs uri and opaque")
	}
	u, err := url.Parse(*uri)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("callback.http.uri %q is not an http or https URL", *uri)
	}
	t.Uri, t.Opaque = *uri, []byte(*opaque)
	return nil
}

func (r *request) replicas(t *Timer) error {
	asked := r.Reliability.ReplicationFactor
	switch {
	case asked == nil && t.GetReplicas() == 0:
		t.Replicas = defaultReplicas
	case asked == nil:
	case *asked < 1 || *asked > maxReplicas:
		return fmt.Errorf("reliability.replication-factor is %d: it must be from 1 to %d", *asked, maxReplicas)
	case t.GetReplicas() != 0 && int64(t.GetReplicas()) != *asked:
		return fmt.Errorf("reliability.replication-factor is %d, the timer's id says %d", *asked, t.GetReplicas())
	default:
		t.Replicas = uint32(*asked)
	}
	return nil
}

func (r *request) tags(t *Timer) error {
	if len(r.Statistics.TagInfo) > maxTagTypes {
		return fmt.Errorf("statistics.tag-info has %d entries, at most %d are kept", len(r.Statistics.TagInfo), maxTagTypes)
	}
	for _, tag := range r.Statistics.TagInfo {
		if tag.Type == nil || *tag.Type == "" || len(*tag.Type) > maxTagLength {
			return fmt.Errorf("statistics.tag-info needs a type of 1 to %d characters", maxTagLength)
		}
		if tag.Count == nil || *tag.Count < 0 || *tag.Count > maxSeconds {
			return fmt.Errorf("statistics.tag-info of type %q needs a count from 0 to %d", *tag.Type, maxSeconds)
		}
		t.Tags = append(t.Tags, &Tag{Type: *tag.Type, Count: uint32(*tag.Count)})
	}
	return nil
}
