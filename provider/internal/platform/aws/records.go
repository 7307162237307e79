package aws

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// keptSet is an owner's records as the parameter store keeps them: compressed, in parts.
type keptSet struct {
	Set platform.RecordSet `json:"set"`
	// Obsolete records are those of before that may still stand in the zone, because a change was interrupted.
	Obsolete []platform.Record `json:"obsolete,omitempty"`
}

// pack makes parts that each fit a parameter.
func pack(k keptSet) ([]string, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(k); err != nil {
		return nil, fmt.Errorf("records of %s: %w", k.Set.Owner, err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("records of %s: %w", k.Set.Owner, err)
	}
	text := base64.StdEncoding.EncodeToString(b.Bytes())
	var out []string
	for part := range slices.Chunk([]byte(text), largest) {
		out = append(out, string(part))
	}
	return out, nil
}

// unpack takes the parts in order.
func unpack(parts []string) (keptSet, error) {
	compressed := base64.NewDecoder(base64.StdEncoding, strings.NewReader(strings.Join(parts, "")))
	z, err := gzip.NewReader(compressed)
	if err != nil {
		return keptSet{}, fmt.Errorf("recorded DNS records: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, 16<<20))
	if err != nil {
		return keptSet{}, fmt.Errorf("recorded DNS records: %w", err)
	}
	return decode[keptSet](string(text))
}

// keptSets reads the records of every owner.
func (a *AWS) keptSets(ctx context.Context, id string) (map[string]keptSet, error) {
	under := worldParameter(id, "records")
	parameters, err := a.below(ctx, under)
	if err != nil {
		return nil, err
	}
	parts := map[string][]string{}
	for _, name := range sortedKeys(parameters) {
		owner := path.Base(path.Dir(name))
		parts[owner] = append(parts[owner], parameters[name])
	}
	out := map[string]keptSet{}
	for owner, p := range parts {
		if out[owner], err = unpack(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keep writes an owner's records. Parts of a longer one of before are removed; with nothing to keep, all.
func (a *AWS) keep(ctx context.Context, id string, k keptSet) error {
	at := worldParameter(id, "records", k.Set.Owner)
	before, err := a.below(ctx, at)
	if err != nil {
		return err
	}
	var parts []string
	if len(k.Set.Records)+len(k.Obsolete) > 0 {
		if parts, err = pack(k); err != nil {
			return err
		}
	}
	const most = 1000
	if len(parts) > most {
		return errors.New("records of " + k.Set.Owner + ": too many")
	}
	for i, part := range parts {
		name := fmt.Sprintf("%s/%03d", at, i) // so that the order of names is that of the parts
		delete(before, name)
		if err := a.put(ctx, name, part); err != nil {
			return err
		}
	}
	return a.remove(ctx, sortedKeys(before)...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
