package tier

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// roll brings existing nodes to the image and configuration of the shape, one at a time, and stops at the first that
// fails. Stateless roles get one node more before, so that capacity never drops; down ends it afterwards.
func (r *run) roll(ctx context.Context) error {
	var stale []platform.Node
	tokens := map[string]string{}
	for index := 1; index <= r.shape.Count; index++ {
		have, exists := r.node(index)
		if !exists {
			continue
		}
		n, token, err := r.want(ctx, index)
		if err != nil {
			return err
		}
		if have.Image.SHA256 != n.Image.SHA256 || !maps.Equal(have.Config, n.Config) {
			stale, tokens[n.Name] = append(stale, n), token
		}
	}
	if len(stale) == 0 {
		return nil
	}
	r.Progress("rolling %s", names(stale))
	if err := r.addSpare(ctx); err != nil {
		return err
	}
	for _, n := range stale {
		if err := r.replace(ctx, n, tokens[n.Name]); err != nil {
			return err
		}
	}
	return nil
}

// addSpare creates one node above the count, unless there is one.
func (r *run) addSpare(ctx context.Context) error {
	index := r.shape.Count + 1
	if r.shape.Role == config.Store {
		return nil
	}
	if limits, ok := r.Platform.(platform.Limits); ok && index > limits.MaxNodesPerTier() {
		return nil // no room for one more: roll without
	}
	if _, exists := r.node(index); exists {
		return nil
	}
	n, token, err := r.want(ctx, index)
	if err != nil {
		return err
	}
	return r.bring(ctx, []platform.Node{n}, map[string]string{n.Name: token})
}

// replace takes one node through the whole: out of DNS, drained, new image on the same index, address and data, ready,
// in DNS again.
func (r *run) replace(ctx context.Context, n platform.Node, token string) error {
	have, _ := r.node(n.Index)
	if r.shape.Role != config.Store {
		if err := r.drain(ctx, []platform.Node{have}); err != nil {
			return err
		}
		return r.bring(ctx, []platform.Node{n}, map[string]string{n.Name: token})
	}
	r.Progress("restarting %s with its new image or settings", n.Name)
	if err := r.Platform.ApplyNode(ctx, r.shape.Deployment, n); err != nil {
		return fmt.Errorf("replacing %s: %w", n.Name, err)
	}
	if err := r.ready(ctx, n); err != nil {
		return err
	}
	return r.look(ctx)
}

// tokenName is the secret that holds a node's join token for as long as the node exists.
func tokenName(node string) string { return "token." + node }

// token is what the node joins with. An existing node keeps it, so that its configuration does not change.
func (r *run) token(ctx context.Context, node string, exists bool) (string, error) {
	token, err := r.Platform.GetSecret(ctx, r.shape.Deployment, tokenName(node))
	if err == nil && exists {
		return token, nil
	}
	if err != nil && !errors.Is(err, platform.ErrNotFound) {
		return "", fmt.Errorf("token of %s: %w", node, err)
	}
	if token, err = randomText(32); err != nil {
		return "", err
	}
	return token, r.Platform.PutSecret(ctx, r.shape.Deployment, tokenName(node), token)
}

func randomText(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	return hex.EncodeToString(b), nil
}

func sortNodes(nodes iter.Seq[platform.Node]) []platform.Node {
	return slices.SortedFunc(nodes, func(a, b platform.Node) int { return cmp.Compare(a.Index, b.Index) })
}

func names(nodes []platform.Node) string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}
