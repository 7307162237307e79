package dictionary_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/fiorix/go-diameter/v4/diam"
	"github.com/fiorix/go-diameter/v4/diam/avp"
	"github.com/fiorix/go-diameter/v4/diam/datatype"
	"github.com/fiorix/go-diameter/v4/diam/dict"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

func load(t testing.TB) *dictionary.Dictionary {
	t.Helper()
	d, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// uar is a request that is right.
func uar() *wire.Builder {
	return wire.NewRequest(nil, wire.UserAuthorization, wire.Cx, wire.FlagProxiable).
		Text(wire.SessionID, "gw;1;1").
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, "gw.ims.test").Text(wire.OriginRealm, "ims.test").Text(wire.DestinationRealm, "ims.test").
		Text(wire.UserName, "a@ims.test").Text(wire.PublicIdentity, "sip:a@ims.test")
}

func finish(t testing.TB, b *wire.Builder) wire.Message {
	t.Helper()
	m, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTGPPNames holds the codes that the dictionary must have against those that RFC 4740 gives to other AVPs of
// nearly the same names.
func TestTGPPNames(t *testing.T) {
	d := load(t)
	for name, code := range map[string]uint32{
		"Public-Identity": 601, "Server-Name": 602, "Server-Capabilities": 603, "User-Data": 606, "SIP-Auth-Data-Item": 612,
		"Server-Assignment-Type": 614, "User-Authorization-Type": 623, "Visited-Network-Identifier": 600, "Supported-Features": 628, "Associated-Identities": 632,
	} {
		got, err := d.Parser.FindAVPWithVendor(wire.Cx, name, 10415)
		if err != nil || got.Code != code || got.VendorID != 10415 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, absent := range []string{"SIP-AOR", "SIP-Server-Assignment-Type", "SIP-Server-URI"} {
		if got, err := d.Parser.FindAVP(wire.Cx, absent); err == nil {
			t.Errorf("%s of RFC 4740 is in the dictionary as %v", absent, got)
		}
	}
	for code, want := range map[uint32]string{300: "User-Authorization", 301: "Server-Assignment", 302: "Location-Info", 303: "Multimedia-Auth", 304: "Registration-Termination", 305: "Push-Profile"} {
		if name, ok := d.Command(wire.Cx, code); !ok || name != want {
			t.Errorf("command %d is %q", code, name)
		}
	}
	if _, ok := d.Command(6, 283); ok {
		t.Error("the application of RFC 4740 is known")
	}
}

func TestValidate(t *testing.T) {
	d := load(t)
	const visited = wire.VisitedNetworkIdentifier
	for name, c := range map[string]struct {
		m    wire.Message
		want uint32
		avp  uint32 // in Failed-AVP
	}{
		"right":                          {finish(t, uar().Text(visited, "ims.test")), 0, 0},
		"missing":                        {finish(t, uar()), wire.MissingAVP, 600},
		"twice":                          {finish(t, uar().Text(visited, "x").Text(visited, "y")), wire.AVPOccursTooManyTimes, 600},
		"unknown, to be understood":      {finish(t, uar().Text(visited, "x").Uint32(wire.Mandatory|wire.TGPP|9999, 1)), wire.AVPUnsupported, 9999},
		"unknown, not to be understood":  {finish(t, uar().Text(visited, "x").Uint32(wire.TGPP|9999, 1)), 0, 0},
		"same code of another vendor":    {finish(t, uar().Text(visited, "x").Uint32(wire.Mandatory|wire.Attribute(601), 1)), wire.AVPUnsupported, 601},
		"number of two bytes":            {finish(t, uar().Text(visited, "x").Bytes(wire.UserAuthorizationType, []byte{0, 1})), wire.InvalidAVPLength, 623},
		"group whose member is cut":      {finish(t, uar().Text(visited, "x").Bytes(wire.SupportedFeatures, []byte{0, 0, 1, 10, 0x40, 0, 0, 99, 0, 0, 0, 0})), wire.InvalidAVPLength, 266},
		"group with unknown M":           {finish(t, uar().Text(visited, "x").Begin(wire.SupportedFeatures).Uint32(wire.Mandatory|4711, 1).End()), wire.AVPUnsupported, 4711},
		"text that is none":              {finish(t, uar().Text(visited, "x").Text(wire.DestinationHost, "no host")), wire.InvalidAVPValue, 293},
		"command that Cx does not have":  {finish(t, wire.NewRequest(nil, 999, wire.Cx, 0)), wire.CommandUnsupported, 0},
		"command of another application": {finish(t, wire.NewRequest(nil, 306, wire.Cx, 0)), wire.CommandUnsupported, 0},
	} {
		f := d.Validate(c.m)
		if (f == nil) != (c.want == 0) || f != nil && f.Code != c.want {
			t.Errorf("%s: %v, want %d", name, f, c.want)
			continue
		}
		if f != nil && c.avp != 0 {
			if s := wire.Group(append(bytes.Clone(f.Failed), make([]byte, 64)...)); len(f.Failed) < 8 || (s.Next() && s.Kind.Code() != c.avp) {
				t.Errorf("%s: Failed-AVP % x, want one of code %d", name, f.Failed, c.avp)
			}
		}
	}
}

// random makes a Cx message of go-diameter's with AVPs of the dictionary's types, some grouped.
func random(r *rand.Rand, d *dictionary.Dictionary, all []*dict.AVP) *diam.Message {
	m := diam.NewMessage(300+uint32(r.IntN(6)), uint8(r.IntN(2))*0x80|0x40, wire.Cx, r.Uint32(), r.Uint32(), d.Parser) //nolint:gosec // small
	for range r.IntN(12) {
		a := all[r.IntN(len(all))]
		m.AddAVP(diam.NewAVP(a.Code, flags(a), a.VendorID, value(r, a, all, 0)))
	}
	return m
}

func flags(a *dict.AVP) uint8 {
	f := uint8(0)
	if a.VendorID != 0 {
		f |= avp.Vbit
	}
	if a.Must == "M" || a.Must == "V,M" {
		f |= avp.Mbit
	}
	return f
}

func value(r *rand.Rand, a *dict.AVP, all []*dict.AVP, depth int) datatype.Type {
	text := make([]byte, r.IntN(40))
	for i := range text {
		text[i] = byte('a' + r.IntN(26))
	}
	switch a.Data.Type {
	case datatype.GroupedType:
		g := &diam.GroupedAVP{}
		for range r.IntN(4) {
			if b := all[r.IntN(len(all))]; depth < 3 {
				g.AddAVP(diam.NewAVP(b.Code, flags(b), b.VendorID, value(r, b, all, depth+1)))
			}
		}
		return g
	case datatype.Unsigned32Type:
		return datatype.Unsigned32(r.Uint32())
	case datatype.EnumeratedType:
		return datatype.Enumerated(int32(r.Uint32())) //nolint:gosec // any bits
	case datatype.Unsigned64Type:
		return datatype.Unsigned64(r.Uint64())
	case datatype.OctetStringType:
		return datatype.OctetString(text)
	case datatype.DiameterIdentityType:
		return datatype.DiameterIdentity(append(text, 'x'))
	case datatype.DiameterURIType:
		return datatype.DiameterURI(append(text, 'x'))
	default:
		return datatype.UTF8String(text)
	}
}

// same compares what wire reads with what go-diameter holds.
func same(t *testing.T, s wire.Scanner, want []*diam.AVP) {
	t.Helper()
	for _, a := range want {
		if !s.Next() {
			t.Fatalf("AVP %d is missing", a.Code)
		}
		if s.Kind.Code() != a.Code || s.Kind.Vendor() != a.VendorID || s.Flag != a.Flags {
			t.Fatalf("got AVP %d of vendor %d with flags %x, want %v", s.Kind.Code(), s.Kind.Vendor(), s.Flag, a)
		}
		if g, ok := a.Data.(*diam.GroupedAVP); ok {
			same(t, wire.Group(s.Data), g.AVP)
			continue
		}
		if !bytes.Equal(s.Data, a.Data.Serialize()) {
			t.Fatalf("AVP %d holds % x, want % x", a.Code, s.Data, a.Data.Serialize())
		}
	}
	if s.Next() || s.Err() != nil {
		t.Fatal("there are more AVPs, or bad ones")
	}
}

// rewrite copies a message AVP by AVP with the Builder.
func rewrite(b *wire.Builder, s wire.Scanner, want []*diam.AVP) {
	for i := 0; s.Next(); i++ {
		kind := s.Kind
		if s.Flag&avp.Mbit != 0 {
			kind |= wire.Mandatory
		}
		if g, ok := want[i].Data.(*diam.GroupedAVP); ok {
			b.Begin(kind)
			rewrite(b, wire.Group(s.Data), g.AVP)
			b.End()
			continue
		}
		b.Bytes(kind, s.Data)
	}
}

// TestSameAsGoDiameter compares reading and writing with go-diameter on random messages, both ways.
func TestSameAsGoDiameter(t *testing.T) {
	d := load(t)
	var all []*dict.AVP
	for _, app := range d.Parser.Apps() {
		if app.ID == wire.Cx {
			all = app.AVP
		}
	}
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	for range 3000 {
		theirs := random(r, d, all)
		text, err := theirs.Serialize()
		if err != nil {
			t.Fatal(err)
		}
		ours, err := wire.Check(text)
		if err != nil {
			t.Fatal(err)
		}
		h := theirs.Header
		if ours.Command() != h.CommandCode || ours.Flags() != h.CommandFlags || ours.Application() != h.ApplicationID || ours.HopByHop() != h.HopByHopID || ours.EndToEnd() != h.EndToEndID {
			t.Fatalf("header % x, want %v", text[:20], h)
		}
		same(t, ours.AVPs(), theirs.AVP)

		b := wire.NewRequest(nil, h.CommandCode, h.ApplicationID, h.CommandFlags)
		rewrite(b, ours.AVPs(), theirs.AVP)
		again := finish(t, b)
		again.SetFlags(h.CommandFlags)
		again.SetHopByHop(h.HopByHopID)
		again.SetEndToEnd(h.EndToEndID)
		if !bytes.Equal(again, text) {
			t.Fatalf("written % x, want % x", []byte(again), text)
		}
		back, err := diam.ReadMessage(bytes.NewReader(again), d.Parser)
		if err != nil {
			t.Fatal(err)
		}
		same(t, ours.AVPs(), back.AVP)
	}
}

// FuzzValidate feeds any bytes: nothing may panic, and what go-diameter reads, wire reads to the same AVPs.
func FuzzValidate(f *testing.F) {
	d := load(f)
	f.Add([]byte(finish(f, uar())))
	f.Add([]byte(finish(f, uar().Bytes(wire.SupportedFeatures, []byte{0, 0, 1, 10, 0x40, 0, 0, 99, 0, 0, 0, 0}))))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := wire.Check(text)
		if err != nil {
			return
		}
		if d.Validate(m) != nil || cut(m.AVPs()) {
			return // go-diameter panics at groups whose members do not fit, so it is never given what is not validated
		}
		if theirs, err := diam.ReadMessage(bytes.NewReader(m), d.Parser); err == nil {
			same(t, m.AVPs(), theirs.AVP)
		}
	})
}

// cut tells a group whose last member lacks its padding, over which go-diameter stumbles and we do not.
func cut(s wire.Scanner) bool {
	for s.Next() {
		if len(s.Whole())%4 != 0 && len(s.Rest()) == 0 {
			return true
		}
		if inner := wire.Group(s.Data); cut(inner) {
			return true
		}
	}
	return false
}
