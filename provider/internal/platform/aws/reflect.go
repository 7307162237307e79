package aws

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// atOnce is how many instances are asked for their user data at the same time; EC2 throttles more.
const atOnce = 8

// Reflect implements platform.Reflector.
func (a *AWS) Reflect(ctx context.Context, deployment string) (*platform.World, error) {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return nil, err
	}
	under := worldParameter(id)
	parameters, err := a.below(ctx, under)
	if err != nil {
		return nil, err
	}
	w := &platform.World{}
	sets := map[string][]string{}
	for _, name := range sortedKeys(parameters) {
		if err := a.fill(w, sets, strings.TrimPrefix(name, under+"/"), parameters[name]); err != nil {
			return nil, err
		}
	}
	w.Deployment.CACertificate = parameters[worldParameter(id, "ca")]
	for _, owner := range sortedKeys(sets) {
		kept, err := unpack(sets[owner])
		if err != nil {
			return nil, err
		}
		if len(kept.Set.Records) > 0 {
			w.Records = append(w.Records, kept.Set)
		}
	}
	w.Nodes, err = a.nodes(ctx, id)
	return w, err
}

// fill puts one parameter of the world in its place.
func (a *AWS) fill(w *platform.World, sets map[string][]string, name, text string) error {
	kind, rest := path.Split(name)
	switch kind = strings.Trim(kind, "/"); {
	case name == "deployment":
		d, err := decode[recorded](text)
		w.Deployment = a.described(d, "")
		return err
	case kind == "networks":
		n, err := decode[recordedNetwork](text)
		w.Networks = append(w.Networks, platform.Network{Name: n.Name, CIDR: n.CIDR, Zones: len(n.Zones)})
		return err
	case kind == "sites":
		s, err := decode[platform.Site](text)
		w.Sites = append(w.Sites, s)
		return err
	case strings.HasPrefix(kind, "records/") && rest != "":
		owner := path.Base(kind)
		sets[owner] = append(sets[owner], text)
	}
	return nil
}

func (a *AWS) nodes(ctx context.Context, id string) ([]platform.Node, error) {
	instances, err := a.instances(ctx, map[string]string{tagDeployment: id})
	if err != nil {
		return nil, err
	}
	out := make([]platform.Node, len(instances))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for at, i := range instances {
		group.Go(func() (err error) {
			out[at], err = a.nodeOf(ctx, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err //nolint:wrapcheck // says which node
	}
	slices.SortFunc(out, func(a, b platform.Node) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Index, b.Index))
	})
	return out, nil
}
