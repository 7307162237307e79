package subscriber

import (
	"errors"
	"slices"
	"testing"
)

const wildcards = `<IMSSubscription><ServiceProfile>
<PublicIdentity><Identity>sip:pbx-!.*!@ims.test</Identity><Extension><IdentityType>3</IdentityType><WildcardedIMPU>sip:pbx-!.*!@ims.test</WildcardedIMPU></Extension></PublicIdentity>
<PublicIdentity><Identity>sip:pbx@ims.test</Identity></PublicIdentity>
<PublicIdentity><Identity>sip:pbx-13@ims.test</Identity><BarringIndication>1</BarringIndication></PublicIdentity>
<PublicIdentity><Identity>sip:pbx-9!.{2,}!@ims.test</Identity><BarringIndication>1</BarringIndication></PublicIdentity>
<PublicIdentity><Identity>tel:+1-555!(1|2)[0-9]+!</Identity></PublicIdentity></ServiceProfile>
<ServiceProfile><PublicIdentity><Identity>sip:x@ims.test</Identity><Extension><Extension><Extension><WildcardedIMPU>sip:room.!.*!@ims.test</WildcardedIMPU></Extension></Extension></Extension></PublicIdentity></ServiceProfile></IMSSubscription>`

// An identity that is listed counts as it is; others as the most specific wildcard that covers them.
func TestMostSpecificIdentity(t *testing.T) {
	p, err := Parse(wildcards)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]struct {
		wildcard string
		barred   bool
		service  int
	}{
		"sip:pbx-7@ims.test": {"sip:pbx-!.*!@ims.test", false, 0}, "sip:pbx-@ims.test": {"sip:pbx-!.*!@ims.test", false, 0}, "sip:pbx@ims.test": {},
		"sip:pbx-13@ims.test": {"", true, 0}, "sip:pbx-90@ims.test": {"sip:pbx-!.*!@ims.test", false, 0}, "sip:pbx-901@ims.test": {"sip:pbx-9!.{2,}!@ims.test", true, 0},
		"tel:+155519": {"tel:+1-555!(1|2)[0-9]+!", false, 0}, "sip:room.5@ims.test": {"sip:room.!.*!@ims.test", false, 1},
	} {
		got, ok := p.Find(key)
		if !ok || got.Wildcard != want.wildcard || got.Barred != want.barred || got.Service != want.service || got.Key != key || got.URI != key {
			t.Errorf("%s is %+v", key, got)
		}
	}
	for _, key := range []string{"sip:pbx-7@other.test", "sip:xpbx-7@ims.test", "tel:+15553", "tel:+15551", "sip:roomx5@ims.test", "sip:pbx-7@ims.test.evil"} {
		if got, ok := p.Find(key); ok {
			t.Errorf("%s is %+v", key, got)
		}
	}
	if main, ok := p.Default(); !ok || main.Key != "sip:pbx@ims.test" {
		t.Errorf("the default identity is %+v", main)
	}
	if got := p.Unbarred(); !slices.Equal(got, []string{"sip:pbx@ims.test"}) {
		t.Errorf("usable are %q", got)
	}
}

// The HSS may know of a wildcard what we do not see: its word counts.
func TestCoveredByTheWordOfTheHSS(t *testing.T) {
	p, err := Parse(wildcards)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := p.Covered("sip:room.!.*!@ims.test", "sip:salon@ims.test"); !ok || got.Service != 1 || got.Key != "sip:salon@ims.test" {
		t.Errorf("got %+v", got)
	}
	for _, wild := range []string{"sip:other!.*!@ims.test", "sip:pbx@ims.test", ""} {
		if got, ok := p.Covered(wild, "sip:salon@ims.test"); ok {
			t.Errorf("%q covers %+v", wild, got)
		}
	}
}

func TestWildcardsThatAreWrong(t *testing.T) {
	_, err := Parse("<IMSSubscription><ServiceProfile><PublicIdentity><Identity>sip:a!*!@b</Identity></PublicIdentity></ServiceProfile></IMSSubscription>")
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	p, err := Parse("<IMSSubscription><ServiceProfile><PublicIdentity><Identity>sip:a!@b</Identity></PublicIdentity></ServiceProfile></IMSSubscription>")
	if err != nil || p.Identities[0].Wildcard != "" {
		t.Errorf("one exclamation mark is no wildcard: %v", err)
	}
}
