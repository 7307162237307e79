package tier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// errLost: a store whose data is gone would start anew, empty.
var errLost = errors.New("the site's cluster was bootstrapped before, and no store node of it is left: its data is lost")

// up creates what is missing, and starts or waits for what is there and does not serve: store nodes one at a time, others
// together. DNS names a node when it is ready.
func (r *run) up(ctx context.Context) error {
	var pending []platform.Node
	tokens := map[string]string{}
	for index := 1; index <= r.shape.Count; index++ {
		have, exists := r.node(index)
		if exists && r.serves(ctx, have) {
			continue // roll sees to its image and configuration
		}
		n, token, err := r.want(ctx, index)
		if err != nil {
			return err
		}
		pending, tokens[n.Name] = append(pending, n), token
	}
	if len(pending) == 0 {
		return nil
	}
	return r.bring(ctx, pending, tokens)
}

// serves tells whether an existing node has gone all the way up.
func (r *run) serves(ctx context.Context, n platform.Node) bool {
	if !n.Running || !r.published[n.Name] || (n.Role == config.Store && r.site.ClusterID == "") {
		return false
	}
	status, err := r.Nodes.Status(ctx, n)
	return err == nil && status.State == management.Ready
}

// bring creates or starts nodes, waits until they are ready, and publishes them.
func (r *run) bring(ctx context.Context, pending []platform.Node, tokens map[string]string) error {
	machines := r.machinesWith(pending)
	if err := r.publish(ctx, machines); err != nil {
		return err
	}
	if r.shape.Role == config.Store {
		for _, n := range pending {
			if err := r.bringStore(ctx, n, tokens[n.Name], machines); err != nil {
				return err
			}
		}
		return r.look(ctx)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, n := range pending {
		group.Go(func() error { return r.bringOne(groupCtx, n, tokens[n.Name]) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, n := range pending {
		r.published[n.Name] = true
	}
	if err := r.publish(ctx, machines); err != nil {
		return err
	}
	r.Progress("in DNS: %s", names(pending))
	return r.look(ctx)
}

// machinesWith lists what exists and what is about to.
func (r *run) machinesWith(pending []platform.Node) []platform.Node {
	byName := map[string]platform.Node{}
	for _, n := range append(r.nodes(), pending...) {
		byName[n.Name] = n
	}
	return sortNodes(maps.Values(byName))
}

func (r *run) bringOne(ctx context.Context, n platform.Node, token string) error {
	began := time.Now()
	if err := r.Nodes.Admit(ctx, r.world, n, token); err != nil {
		return fmt.Errorf("admitting %s: %w", n.Name, err)
	}
	r.Progress("starting %s at %s", n.Name, n.Address)
	if err := r.Platform.ApplyNode(ctx, r.shape.Deployment, n); err != nil {
		return fmt.Errorf("creating %s: %w", n.Name, err)
	}
	if err := r.ready(ctx, n); err != nil {
		return err
	}
	r.Progress("%s is ready (%.1f s)", n.Name, time.Since(began).Seconds())
	return nil
}

// bringStore creates a store node. The first of a site is bootstrapped, only if there is no other store machine and the
// platform has no record of a cluster; any other joins.
func (r *run) bringStore(ctx context.Context, n platform.Node, token string, machines []platform.Node) error {
	began := time.Now()
	others := 0
	for _, m := range r.nodes() {
		if m.Name != n.Name {
			others++
		}
	}
	_, exists := r.node(n.Index)
	first := others == 0 && (r.site.ClusterID == "" || !exists)
	if first && r.site.ClusterID != "" && !r.shape.Renew {
		return fmt.Errorf("site %s: %w. Put its node folder back, or set accept_data_loss = true to start with an empty store", r.site.Name, errLost)
	}
	if !first {
		if err := r.Nodes.Admit(ctx, r.world, n, token); err != nil && !exists {
			return fmt.Errorf("admitting %s: %w", n.Name, err)
		}
	}
	r.Progress("starting %s at %s", n.Name, n.Address)
	if err := r.Platform.ApplyNode(ctx, r.shape.Deployment, n); err != nil {
		return fmt.Errorf("creating %s: %w", n.Name, err)
	}
	if first { // it finds its own etcd by the cluster's name; any other finds those that are there, and is named when it serves
		r.published[n.Name] = true
		if err := r.publish(ctx, machines); err != nil {
			return err
		}
		if err := r.bootstrap(ctx, n, token); err != nil {
			return err
		}
	}
	if err := r.ready(ctx, n); err != nil {
		return err
	}
	if !r.published[n.Name] {
		r.published[n.Name] = true
		if err := r.publish(ctx, machines); err != nil {
			return err
		}
	}
	r.Progress("%s is ready (%.1f s)", n.Name, time.Since(began).Seconds())
	return r.look(ctx)
}

// untilCrashed is a context that ends when the node's process ends again and again; the cause says so.
func (r *run) untilCrashed(ctx context.Context, n platform.Node) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	crashed := r.crashes(ctx, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, r.Poll) == nil {
			if err := crashed(); err != nil {
				cancel(err)
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

func (r *run) bootstrap(ctx context.Context, n platform.Node, token string) error {
	ctx, stop := r.untilCrashed(ctx, n)
	defer stop()
	id, err := r.Nodes.Bootstrap(ctx, r.world, n, token)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, ctx.Err()) {
		err = cause
	}
	if err != nil {
		return r.explain(ctx, n, fmt.Errorf("bootstrapping %s: %w", n.Name, err))
	}
	r.Progress("%s bootstrapped cluster %s", n.Name, id)
	r.site.ClusterID = id
	if err := r.Platform.ApplySite(ctx, r.shape.Deployment, r.site); err != nil {
		return fmt.Errorf("recording the cluster's id: %w", err)
	}
	return nil
}

// tooManyCrashes is how often a node's process may end while it is waited for; with the supervisor's back-off that is
// some seconds of trying.
const tooManyCrashes = 6

// crashes returns a check whether the node's process ends again and again, where the platform can tell.
func (r *run) crashes(ctx context.Context, n platform.Node) func() error {
	watchers, ok := r.Platform.(platform.Watchers)
	if !ok {
		return func() error { return nil }
	}
	first, _, err := watchers.Restarts(ctx, r.shape.Deployment, n.Name)
	if err != nil {
		first = 0
	}
	return func() error {
		times, reason, err := watchers.Restarts(ctx, r.shape.Deployment, n.Name)
		if err != nil || times < first+tooManyCrashes {
			return nil //nolint:nilerr // whoever cannot tell does not stop the wait
		}
		return fmt.Errorf("%s does not stay up: it ended %d times, last with %s", n.Name, times-first, reason)
	}
}

// ready waits until the node itself says that it is, as the incarnation that was asked for.
func (r *run) ready(ctx context.Context, n platform.Node) error {
	var last string
	crashed := r.crashes(ctx, n)
	for {
		status, err := r.Nodes.Status(ctx, n)
		switch {
		case err != nil:
			last = err.Error()
		case status.Incarnation != "" && n.Incarnation != "" && status.Incarnation != n.Incarnation:
			last = "it is still another incarnation, " + status.Incarnation
		case status.State == management.Ready:
			return nil
		case status.State == management.Draining || status.State == management.Drained:
			last = "it is " + string(status.State) // an interrupted resize: it stays, so it serves again
			if err := r.Nodes.Undrain(ctx, n); err != nil {
				last = err.Error()
			}
		default:
			last = fmt.Sprintf("it is %s: %s", status.State, strings.Join(status.Reasons, "; "))
		}
		if err := crashed(); err != nil {
			return r.explain(ctx, n, err)
		}
		if err := sleep(ctx, r.Poll); err != nil {
			return r.explain(ctx, n, fmt.Errorf("%s is not ready: %s (%w)", n.Name, last, err))
		}
	}
}

// explain adds the end of the node's log, where the platform can read it.
func (r *run) explain(ctx context.Context, n platform.Node, err error) error {
	consoles, ok := r.Platform.(platform.Consoles)
	if !ok {
		return err
	}
	text, consoleErr := consoles.Console(context.WithoutCancel(ctx), r.shape.Deployment, n.Name)
	if consoleErr != nil || text == "" {
		return err
	}
	return fmt.Errorf("%w\nThe end of its log:\n%s", err, strings.TrimSpace(text))
}
