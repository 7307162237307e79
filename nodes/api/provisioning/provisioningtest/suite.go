package provisioningtest

import (
	"slices"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// Conformance checks what callers of the provisioning API depend on, against any server of it: this package's double and the
// real one must both pass. base is its URL; the subscribers it makes are of domain conformance.example.com, and gone
// afterwards.
func Conformance(t *testing.T, base string) {
	t.Helper()
	s := &suite{c: provisioning.New(base, nil)}
	t.Run("private identity", s.private)
	t.Run("registration set", s.set)
	t.Run("public identity", s.public)
	t.Run("subscriber", s.subscriber)
}

type suite struct{ c *provisioning.Client }

const (
	impi   = "alice@conformance.example.com"
	impu   = "sip:alice@conformance.example.com"
	second = "tel:+16505550199"
	domain = "conformance.example.com"
	nobody = "00000000-0000-4000-8000-0000000000ff"
)

func want(t *testing.T, what string, err error, status int) {
	t.Helper()
	if (status == 0) != (err == nil) || rest.Status(err) != status {
		t.Errorf("%s: %v, want status %d", what, err, status)
	}
}

func (s *suite) private(t *testing.T) {
	ctx := t.Context()
	_, err := s.c.Private(ctx, impi)
	want(t, "reading an unknown private identity", err, 404)
	want(t, "credentials without password and digest", s.c.PutPrivate(ctx, impi, provisioning.Private{Realm: domain}), 400)
	want(t, "password and digest", s.c.PutPrivate(ctx, impi, provisioning.Private{
		PlaintextPassword: "x", DigestHA1: provisioning.HA1(impi, domain, "x")}), 400)
	want(t, "a password", s.c.PutPrivate(ctx, impi, provisioning.Private{PlaintextPassword: "secret", Realm: domain}), 0)
	got, err := s.c.Private(ctx, impi)
	want(t, "reading", err, 0)
	if err == nil && (got.PlaintextPassword != "secret" || got.Realm != domain || got.DigestHA1 != provisioning.HA1(impi, domain, "secret")) {
		t.Errorf("got %+v", got)
	}
	digest := provisioning.HA1(impi, domain, "other")
	card := provisioning.AKA{K: "465b5ce8b199b49faa5f0a2ee238a6bc", OPc: "cd63cb71954a9f4e48a5994e37a02baf"}
	want(t, "a card with OP and OPc", s.c.PutPrivate(ctx, impi, provisioning.Private{AKA: provisioning.AKA{K: card.K, OPc: card.OPc, OP: card.OPc}}), 400)
	want(t, "a card beside the password", s.c.PutPrivate(ctx, impi, provisioning.Private{Realm: domain, AKA: card}), 0)
	if got, err = s.c.Private(ctx, impi); err != nil || got.PlaintextPassword != "secret" || !got.HasAKA || got.AKA != (provisioning.AKA{}) {
		t.Errorf("after a card: %+v, %v", got, err)
	}
	want(t, "a digest", s.c.PutPrivate(ctx, impi, provisioning.Private{DigestHA1: digest, Realm: domain}), 0)
	if got, err = s.c.Private(ctx, impi); err != nil || got.PlaintextPassword != "" || got.DigestHA1 != digest {
		t.Errorf("a digest must erase the password: %+v, %v", got, err)
	}
	for range 2 {
		want(t, "deleting", s.c.DeletePrivate(ctx, impi), 0)
	}
}

func (s *suite) set(t *testing.T) {
	ctx := t.Context()
	irs, err := s.c.CreateRegistrationSet(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "linking an unknown private identity", s.c.PutRegistrationSetPrivateID(ctx, irs, impi), 404)
	want(t, "a private identity", s.c.PutPrivate(ctx, impi, provisioning.Private{PlaintextPassword: "secret", Realm: domain}), 0)
	for range 2 {
		want(t, "linking", s.c.PutRegistrationSetPrivateID(ctx, irs, impi), 0)
	}
	if ids, err := s.c.RegistrationSetPrivateIDs(ctx, irs); err != nil || !slices.Equal(ids, []string{impi}) {
		t.Errorf("private identities %v, %v", ids, err)
	}
	if ids, err := s.c.PrivateRegistrationSets(ctx, impi); err != nil || !slices.Equal(ids, []string{irs}) {
		t.Errorf("sets %v, %v", ids, err)
	}
	_, err = s.c.CreateServiceProfile(ctx, nobody)
	want(t, "a profile in an unknown set", err, 404)
	_, err = s.c.RegistrationSetPublicIDs(ctx, nobody)
	want(t, "reading an unknown set", err, 404)
	want(t, "deleting a linked private identity", s.c.DeletePrivate(ctx, impi), 0)
	if ids, err := s.c.RegistrationSetPrivateIDs(ctx, irs); err != nil || len(ids) != 0 {
		t.Errorf("after its deletion the set still has %v, %v", ids, err)
	}
	for range 2 {
		want(t, "deleting", s.c.DeleteRegistrationSet(ctx, irs), 0)
	}
}

func (s *suite) public(t *testing.T) {
	ctx := t.Context()
	_, err := s.c.PublicProfile(ctx, impu)
	want(t, "an unknown public identity", err, 404)
	var profiles []provisioning.Profile
	for range 2 {
		irs, err := s.c.CreateRegistrationSet(ctx)
		if err != nil {
			t.Fatal(err)
		}
		id, err := s.c.CreateServiceProfile(ctx, irs)
		if err != nil {
			t.Fatal(err)
		}
		profiles = append(profiles, provisioning.Profile{RegistrationSet: irs, ID: id})
	}
	first := profiles[0]
	_, err = s.c.FilterCriteria(ctx, first)
	want(t, "criteria of a profile that has none", err, 404)
	want(t, "criteria that are not XML", s.c.PutFilterCriteria(ctx, first, "hello"), 400)
	want(t, "criteria", s.c.PutFilterCriteria(ctx, first, provisioning.DefaultFilterCriteria(domain)), 0)
	if text, err := s.c.FilterCriteria(ctx, first); err != nil || !strings.Contains(text, "<ServerName>sip:mmtel."+domain+"</ServerName>") {
		t.Errorf("criteria %q, %v", text, err)
	}
	for range 2 {
		want(t, "a public identity", s.c.PutPublicID(ctx, first, impu, false), 0)
	}
	want(t, "a second one, barred", s.c.PutPublicID(ctx, first, second, true), 0)
	crossed := provisioning.Profile{RegistrationSet: profiles[1].RegistrationSet, ID: first.ID}
	want(t, "a profile of another set", s.c.PutPublicID(ctx, crossed, impu, false), 403)
	if ids, err := s.c.ProfilePublicIDs(ctx, first); err != nil || !slices.Equal(ids, []string{impu, second}) {
		t.Errorf("public identities %v, %v", ids, err)
	}
	if p, err := s.c.PublicProfile(ctx, impu); err != nil || p != first {
		t.Errorf("profile %v, %v", p, err)
	}
	if irs, err := s.c.PublicRegistrationSet(ctx, second); err != nil || irs != first.RegistrationSet {
		t.Errorf("set %v, %v", irs, err)
	}
	s.listed(t, impu, true)
	want(t, "deleting a public identity", s.c.DeletePublicID(ctx, first, second), 0)
	_, err = s.c.PublicProfile(ctx, second)
	want(t, "a deleted public identity", err, 404)
	for _, p := range profiles {
		want(t, "deleting the set", s.c.DeleteRegistrationSet(ctx, p.RegistrationSet), 0)
	}
	_, err = s.c.PublicProfile(ctx, impu)
	want(t, "an identity of a deleted set", err, 404)
	s.listed(t, impu, false)
}

func (s *suite) listed(t *testing.T, uri string, wanted bool) {
	t.Helper()
	all, err := s.c.PublicIDs(t.Context(), provisioning.ListOptions{})
	found := slices.ContainsFunc(all, func(l provisioning.Listed) bool { return l.PublicID == uri })
	if err != nil || found != wanted {
		t.Errorf("%s is in the listing: %t, %v; want %t", uri, found, err, wanted)
	}
}

func (s *suite) subscriber(t *testing.T) {
	ctx := t.Context()
	sub := provisioning.Subscriber{PublicIDs: []string{impu, second}, PrivateID: impi, Password: "secret"}
	for range 2 {
		want(t, "creating", s.c.CreateSubscriber(ctx, sub), 0)
	}
	got, err := s.c.GetSubscriber(ctx, second)
	if err != nil || !slices.Equal(got.PublicIDs, sub.PublicIDs) || !slices.Equal(got.PrivateIDs, []string{impi}) || got.Realm != domain {
		t.Errorf("got %+v, %v", got, err)
	}
	if ids, err := s.c.PublicPrivateIDs(ctx, impu); err != nil || !slices.Equal(ids, []string{impi}) {
		t.Errorf("private identities %v, %v", ids, err)
	}
	if ids, err := s.c.PrivatePublicIDs(ctx, impi); err != nil || !slices.Equal(ids, sub.PublicIDs) {
		t.Errorf("public identities %v, %v", ids, err)
	}
	sub.PublicIDs = sub.PublicIDs[:1]
	want(t, "updating", s.c.UpdateSubscriber(ctx, sub), 0)
	_, err = s.c.PublicProfile(ctx, second)
	want(t, "a removed identity", err, 404)
	for range 2 {
		want(t, "deleting", s.c.DeleteSubscriber(ctx, impu, impi), 0)
	}
	_, err = s.c.Private(ctx, impi)
	want(t, "a deleted private identity", err, 404)
}
