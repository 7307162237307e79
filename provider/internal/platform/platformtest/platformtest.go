// Package platformtest is the suite that every platform passes: verbs are idempotent, and Reflect finds the whole world
// again without memory. It also has a platform in memory for tests of what stands above the seam.
package platformtest

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Subject is a platform under test.
type Subject struct {
	// Open returns a platform that sees the same world each time: a new provider process has no memory.
	Open func(t *testing.T) platform.Platform
	// Images are two different binaries that run until they are told to end.
	Images [2]platform.Image
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Run("deployment is adopted by name", s.adoption)
	t.Run("networks", s.networks)
	t.Run("sites and secrets", s.sitesAndSecrets)
	t.Run("nodes", s.nodes)
	t.Run("records", s.records)
	t.Run("what is missing", s.missing)
}

const domain = "ims.example.com"

func (s Subject) deployment(t *testing.T, name string) platform.Deployment {
	t.Helper()
	p := s.Open(t)
	d, err := p.ApplyDeployment(t.Context(), platform.Deployment{ID: uuid.NewString(), Name: name, HomeDomain: domain, CACertificate: "CA"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s Subject) destroy(t *testing.T, id string) {
	t.Helper()
	for range 2 { // the second time there is nothing, which is no error
		if err := s.Open(t).DestroyDeployment(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Open(t).Reflect(t.Context(), id); !errors.Is(err, platform.ErrNotFound) {
		t.Errorf("after destroying: %v, want ErrNotFound", err)
	}
}

func (s Subject) adoption(t *testing.T) {
	first := s.deployment(t, "adopt")
	defer s.destroy(t, first.ID)
	second := s.deployment(t, "adopt")
	if second.ID != first.ID || !second.Running || second.DNSServer != first.DNSServer || second.Ports.DNS == 0 {
		t.Errorf("the second apply found %+v, the first made %+v", second, first)
	}
	_, err := s.Open(t).ApplyDeployment(t.Context(), platform.Deployment{ID: "x", Name: "adopt", HomeDomain: "other.example.com"})
	if !errors.Is(err, platform.ErrConflict) {
		t.Errorf("another home domain: %v, want ErrConflict", err)
	}
	for _, key := range []string{"adopt", first.ID} {
		w, err := s.Open(t).Reflect(t.Context(), key)
		if err != nil || w.Deployment.HomeDomain != domain || w.Deployment.CACertificate != "CA" || !w.Deployment.Running {
			t.Errorf("by %s: %+v, %v", key, w, err)
		}
	}
}

func (s Subject) networks(t *testing.T) {
	d := s.deployment(t, "nets")
	defer s.destroy(t, d.ID)
	p := s.Open(t)
	seen := map[netip.Prefix]bool{}
	for _, name := range []string{"a", "b"} {
		first, err := p.ApplyNetwork(t.Context(), d.ID, platform.Network{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.Open(t).ApplyNetwork(t.Context(), d.ID, platform.Network{Name: name})
		if err != nil || again != first || !first.CIDR.IsValid() || seen[first.CIDR] {
			t.Errorf("network %s is %+v, then %+v, %v", name, first, again, err)
		}
		seen[first.CIDR] = true
	}
	for range 2 {
		if err := p.DeleteNetwork(t.Context(), d.ID, "a"); err != nil {
			t.Fatal(err)
		}
	}
	w, err := s.Open(t).Reflect(t.Context(), d.ID)
	if err != nil || len(w.Networks) != 1 || w.Networks[0].Name != "b" {
		t.Errorf("networks left: %+v, %v", w, err)
	}
}

func (s Subject) sitesAndSecrets(t *testing.T) {
	d := s.deployment(t, "sites")
	defer s.destroy(t, d.ID)
	p := s.Open(t)
	want := platform.Site{Name: "site1", Network: "core", TTL: 5, ClusterID: "c1", ClearwaterNames: true}
	for range 2 {
		if err := p.ApplySite(t.Context(), d.ID, want); err != nil {
			t.Fatal(err)
		}
	}
	w, err := s.Open(t).Reflect(t.Context(), d.ID)
	if err != nil || !slices.Equal(w.Sites, []platform.Site{want}) {
		t.Errorf("sites: %+v, %v", w, err)
	}
	for range 2 {
		if err := p.DeleteSite(t.Context(), d.ID, "site1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.GetSecret(t.Context(), d.ID, "key"); !errors.Is(err, platform.ErrNotFound) {
		t.Errorf("a secret that nobody put: %v", err)
	}
	for _, value := range []string{"one", "two"} {
		if err := p.PutSecret(t.Context(), d.ID, "key", value); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(t).GetSecret(t.Context(), d.ID, "key"); err != nil || got != value {
			t.Errorf("secret %q, %v, want %q", got, err, value)
		}
	}
	if reference, err := p.SecretReference(d.ID, "key"); err != nil || reference == "" || reference == "two" {
		t.Errorf("reference %q, %v", reference, err)
	}
	if err := p.PutSecret(t.Context(), d.ID, "../key", "x"); err == nil {
		t.Error("a secret's name left its place")
	}
	for range 2 {
		if err := p.DeleteSecret(t.Context(), d.ID, "key"); err != nil {
			t.Fatal(err)
		}
	}
}

func (s Subject) node(t *testing.T, d platform.Deployment) platform.Node {
	t.Helper()
	n, err := s.Open(t).ApplyNetwork(t.Context(), d.ID, platform.Network{Name: "core"})
	if err != nil {
		t.Fatal(err)
	}
	address := n.CIDR.Addr().As4()
	address[3] = 130
	return platform.Node{Name: "router-1.site1", Role: config.Router, Site: "site1", Index: 1, Address: netip.AddrFrom4(address), Incarnation: "i1",
		Image: s.Images[0], Config: map[string]string{config.LocalFile: "local_ip=127.0.0.1\n", config.UserFile: "log_level=3\n"}}
}

func (s Subject) nodes(t *testing.T) {
	d := s.deployment(t, "nodes")
	defer s.destroy(t, d.ID)
	want := s.node(t, d)
	check := func(step string) {
		t.Helper()
		w, err := s.Open(t).Reflect(t.Context(), d.ID)
		if err != nil || len(w.Nodes) != 1 {
			t.Fatalf("%s: %+v, %v", step, w, err)
		}
		got := w.Nodes[0]
		if got.Name != want.Name || got.Role != want.Role || got.Site != want.Site || got.Index != want.Index || got.Address != want.Address ||
			got.Incarnation != want.Incarnation || got.Image.SHA256 != want.Image.SHA256 || !maps.Equal(got.Config, want.Config) || !got.Running {
			t.Errorf("%s: found %+v, want %+v", step, got, want)
		}
	}
	apply := func(step string) {
		t.Helper()
		if err := s.Open(t).ApplyNode(t.Context(), d.ID, want); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		check(step)
	}
	apply("create")
	apply("repeat")
	want.Image = s.Images[1]
	apply("new image")
	want.Config = map[string]string{config.LocalFile: "local_ip=127.0.0.2\n", config.UserFile: ""}
	apply("new configuration")
	for range 2 {
		if err := s.Open(t).DeleteNode(t.Context(), d.ID, want.Name); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := s.Open(t).Reflect(t.Context(), d.ID); err != nil || len(w.Nodes) != 0 {
		t.Errorf("after deleting: %+v, %v", w, err)
	}
	apply("create again")
	wrong := want
	wrong.Image.SHA256 = strings.Repeat("0", 64)
	if err := s.Open(t).ApplyNode(t.Context(), d.ID, wrong); err == nil {
		t.Error("an image with another digest than asked for was taken")
	}
}

func (s Subject) records(t *testing.T) {
	d := s.deployment(t, "records")
	defer s.destroy(t, d.ID)
	p := s.Open(t)
	record := func(value string) platform.Record {
		return platform.Record{Name: domain + ".", Type: "A", TTL: 1, Value: value}
	}
	for _, set := range []platform.RecordSet{
		{Owner: "site1.edge.cluster", Records: []platform.Record{record("127.0.0.1")}},
		{Owner: "site2.edge.cluster", Records: []platform.Record{record("127.0.0.2")}},
		{Owner: "site1.edge.cluster", Records: []platform.Record{record("127.0.0.3")}},
		{Owner: "site2.edge.cluster"},
		{Owner: "site2.edge.cluster"},
	} {
		if err := p.Publish(t.Context(), d.ID, set); err != nil {
			t.Fatal(err)
		}
	}
	w, err := s.Open(t).Reflect(t.Context(), d.ID)
	if err != nil || len(w.Records) != 1 || !slices.Equal(w.Records[0].Records, []platform.Record{record("127.0.0.3")}) {
		t.Errorf("records: %+v, %v", w, err)
	}
}

func (s Subject) missing(t *testing.T) {
	p := s.Open(t)
	if _, err := p.Reflect(t.Context(), "nobody"); !errors.Is(err, platform.ErrNotFound) {
		t.Errorf("reflect: %v", err)
	}
	if err := p.ApplyNode(t.Context(), "nobody", platform.Node{Name: "x", Image: s.Images[0]}); !errors.Is(err, platform.ErrNotFound) {
		t.Errorf("node: %v", err)
	}
	if err := errors.Join(p.DeleteNode(t.Context(), "nobody", "x"), p.DeleteSite(t.Context(), "nobody", "x"), p.DeleteNetwork(t.Context(), "nobody", "x"),
		p.DeleteSecret(t.Context(), "nobody", "x"), p.DestroyDeployment(t.Context(), "nobody")); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
}
