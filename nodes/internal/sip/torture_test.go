package sip_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// What must become of a message.
type fate int

const (
	valid   fate = iota // parsed
	answer              // an error, with enough read for a 400
	dropped             // an error, unreadable
)

// The cases follow the ideas of RFC 4475, in our own words. Text has LF for CRLF; a body is behind the empty line.
var torture = []struct {
	name string
	text string
	want fate
	look func(t *testing.T, m *sip.Message)
}{
	{"every freedom of white space, folding, case and compact forms", `INVITE sip:vivek@gateway.test;unknownparam SIP/2.0
TO :
 sip:vivek@gateway.test ;   tag    = 1918181833n
from   : "J Rosenberg \\\""       <sip:jd@example.test>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 4
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.test;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.test   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \"\"" <sip:jd@example.test> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

v=0
`, valid, func(t *testing.T, m *sip.Message) {
		if n, method := m.CSeq(); n != 9 || method != "INVITE" {
			t.Errorf("CSeq %d %q", n, method)
		}
		if m.FromTag() != "98asjd8" || m.ToTag() != "1918181833n" || m.Count(sip.Via) != 3 || m.Body != "v=0\r\n"[:4] {
			t.Errorf("tags %q %q, %d Via, body %q", m.FromTag(), m.ToTag(), m.Count(sip.Via), m.Body)
		}
		v, err := sip.ParseVia(m.All(sip.Via)[2])
		if err != nil || v.Transport != "UDP" || v.Host != "192.168.255.111" || v.Branch() != "z9hG4bK30239" {
			t.Errorf("third Via %+v %v", v, err)
		}
	}},
	{"every character of a method and a user part", "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.test SIP/2.0" + `
Via: SIP/2.0/TCP host1.example.test;branch=z9hG4bK-.!%66*_+` + "`'~" + `
To: "BEL:\` + "\x07" + ` NUL:\` + "\x00" + ` DEL:\` + "\x7f" + `" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.test>
From: token1~` + "` token2'+_ token3*%!.- <sip:mundane@example.test>;fromParam''~+*_!.-%=\"\xD1\x80\xD0\xB0\";tag=_token~1'+`*%!-." + `
Call-ID: intmeth.word%ZK-!.*_+'@word` + "`~)(><:\\/\"][?}{" + `
CSeq: 139122385 !interesting-Method0123456789_*+` + "`.%indeed'~" + `
Max-Forwards: 255
extensionHeader-!.%*+_` + "`'~:\xEF\xBB\xBF\xE5\xA4" + `

`, valid, nil},
	{"escaped characters that must stay escaped", `INVITE sip:sips%3Auser%40example.test@example.net SIP/2.0
To: sip:%75se%72@example.test
From: <sip:I%20have%20spaces@example.net>;tag=938
Max-Forwards: 87
i: esc01.239409asdfakjkn23onasd0-3234
CSeq: 234234 INVITE
Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw
C: application/sdp
Contact: <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>

`, valid, func(t *testing.T, m *sip.Message) {
		u, err := sip.ParseURI(m.URI)
		if err != nil || u.User != "sips%3Auser%40example.test" || u.Host != "example.net" {
			t.Errorf("%+v %v", u, err)
		}
		to, _ := sip.AddressURI(m.Get(sip.To))
		if to.Canonical() != "sip:user@example.test" {
			t.Errorf("canonical To %q", to.Canonical())
		}
		c, _ := sip.AddressURI(m.Get(sip.Contact))
		if _, lr := c.Param("lr"); lr {
			t.Error("an escaped lr is not lr")
		}
	}},
	{"an escaped NUL in a user part", `REGISTER sip:example.test SIP/2.0
To: sip:null-%00-null@example.test
From: sip:null-%00-null@example.test;tag=839923423
Max-Forwards: 70
Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.test;branch=z9hG4bKkdjuw
Contact: <sip:%00@host5.example.test>
Contact: <sip:%00%00@host5.example.test>
L:0

`, valid, nil},
	{"a method with percent signs is not unescaped", `RE%47IST%45R sip:registrar.example.test SIP/2.0
To: "%Z%45" <sip:resource@example.test>
From: "%Z%45" <sip:resource@example.test>;tag=f232jadfj23
Call-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf
Via: SIP/2.0/TCP host.example.test;branch=z9hG4bK209%fzsnel234
CSeq: 29344 RE%47IST%45R
Max-Forwards: 70
Contact: <sip:alias1@host1.example.test>
C%6Fntact: <sip:alias2@host2.example.test>
l: 0

`, valid, func(t *testing.T, m *sip.Message) {
		if m.Method != "RE%47IST%45R" || m.Count(sip.Contact) != 1 {
			t.Errorf("method %q, %d contacts", m.Method, m.Count(sip.Contact))
		}
	}},
	{"no space between display name and angle bracket", `OPTIONS sip:user@example.test SIP/2.0
To: sip:user@example.test
From: caller<sip:caller@example.test>;tag=323
Max-Forwards: 70
Call-ID: lwsdisp.1234abcd@funky.example.test
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP funky.example.test;branch=z9hG4bKkdjuw
l: 0

`, valid, func(t *testing.T, m *sip.Message) {
		if m.FromTag() != "323" {
			t.Errorf("tag %q", m.FromTag())
		}
	}},
	{"very long values", "INVITE sip:user@example.test SIP/2.0\nTo: \"" + strings.Repeat("I have a user name of extreme proportion", 50) + "\"<sip:user@example.test:6000;unknownparam=very" + strings.Repeat("long", 200) + "value>\n" +
		"F: sip:" + strings.Repeat("amazinglylong", 50) + "name@example.net;tag=12" + strings.Repeat("982", 200) + "424\nMax-Forwards: 70\nCSeq: 3882340 INVITE\ni: " + strings.Repeat("longreq", 100) +
		"\n" + strings.Repeat("V: SIP/2.0/TCP sip33.example.test\n", 34) + "l: 0\n\n", valid, func(t *testing.T, m *sip.Message) {
		if m.Count(sip.Via) != 34 {
			t.Errorf("%d Via", m.Count(sip.Via))
		}
	}},
	{"another message behind the end of a datagram's", `REGISTER sip:example.test SIP/2.0
To: sip:j.user@example.test
From: sip:j.user@example.test;tag=43251j3j324
Max-Forwards: 8
I: dblreq.0ha0isndaksdj99sdfafnl3lk233412
Contact: sip:j.user@host.example.test
CSeq: 8 REGISTER
Via: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492
Content-Length: 0

INVITE sip:joe@example.test SIP/2.0
`, valid, func(t *testing.T, m *sip.Message) {
		if m.Body != "" {
			t.Errorf("body %q", m.Body)
		}
	}},
	{"a semicolon in a user part", `OPTIONS sip:user;par=u%40example.net@example.test SIP/2.0
To: sip:j_user@example.test
From: sip:caller@example.org;tag=33242
Max-Forwards: 3
Call-ID: semiuri.0ha0isndaksdj
CSeq: 8 OPTIONS
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw
l: 0

`, valid, func(t *testing.T, m *sip.Message) {
		if u, err := sip.ParseURI(m.URI); err != nil || u.User != "user;par=u%40example.net" || u.Host != "example.test" {
			t.Errorf("%+v %v", u, err)
		}
	}},
	{"transports that nobody knows", `OPTIONS sip:user@example.test SIP/2.0
To: sip:user@example.test
From: <sip:caller@example.test>;tag=323
Max-Forwards: 70
Call-ID: transports.kijh4akdnaqjkwendsasfdj
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP t1.example.test;branch=z9hG4bKkdjuw
Via: SIP/2.0/SCTP t2.example.test;branch=z9hG4bKklasjdhf
Via: SIP/2.0/TLS t3.example.test;branch=z9hG4bK2980unddj
Via: SIP/2.0/UNKNOWN t4.example.test;branch=z9hG4bKasd0f3en
Via: SIP/2.0/TCP t5.example.test;branch=z9hG4bK0a9idfnee
l: 0

`, valid, nil},
	{"a reason phrase beyond ASCII", "SIP/2.0 200 = 2**3 * 5**2 \xD0\xBD\xD0\xBE \xD1\x81\xD1\x82\n" + `Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Call-ID: unreason.1234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.test;tag=11141343
To: sip:user@example.org;tag=2229
Content-Length: 0
Contact: <sip:user@host198.example.test>

`, valid, nil},
	{"no reason phrase", "SIP/2.0 100 \n" + `Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe
Call-ID: noreason.asndj203insdf99223ndf
CSeq: 35 INVITE
From: <sip:user@example.test>;tag=39ansfi3
To: <sip:user@example.edu>;tag=902jndnke3
Content-Length: 0
Contact: <sip:user@host105.example.test>

`, valid, nil},
	{"unknown schemes in the Request-URI and elsewhere", `OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0
To: isbn:2983792873
From: <http://www.example.test>;tag=3234233
Call-ID: unkscm.nasdfasser0q239nwsdfasdkl34
CSeq: 3923423 OPTIONS
Via: SIP/2.0/TCP host9.example.test;branch=z9hG4bKkdjuw39234
Content-Length: 0

`, valid, nil},
	{"parameters of an address without brackets are the header's", `REGISTER sip:example.test SIP/2.0
To: sip:watson@example.test
From: sip:watson@example.test;tag=DkfVgjkrtMwaerKKpe
Call-ID: cparam01.70710@saturn.example.test
CSeq: 2 REGISTER
Via: SIP/2.0/UDP saturn.example.test:5060;branch=z9hG4bKkdjuw
Contact: sip:+19725552222@gw1.example.test;unknownparam
l: 0

`, valid, func(t *testing.T, m *sip.Message) {
		if a, err := sip.ParseAddress(m.Get(sip.Contact)); err != nil || a.Params != ";unknownparam" || strings.Contains(a.URI, ";") {
			t.Errorf("%+v %v", a, err)
		}
	}},
	{"a Route escaped inside a Contact is no Route", `REGISTER sip:example.test SIP/2.0
To: sip:user@example.test
From: sip:user@example.test;tag=8
Call-ID: regescrt.k345asrl3fdbv@192.0.2.1
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.test;branch=z9hG4bKkdjuw
M: <sip:user@example.test?Route=%3Csip:sip.example.test%3E>
L:0

`, valid, func(t *testing.T, m *sip.Message) {
		u, err := sip.AddressURI(m.Get(sip.Contact))
		if err != nil || m.Has(sip.Route) || u.Headers != "?Route=%3Csip:sip.example.test%3E" {
			t.Errorf("%+v %v", u, err)
		}
	}},
	{"a peer of RFC 2543: no branch, no tag, no Max-Forwards", `INVITE sip:UserB@example.test SIP/2.0
Via: SIP/2.0/UDP iftgw.example.test
From: <sip:+13035551111@ift.client.example.net;user=phone>
Record-Route: <sip:UserB@example.test;maddr=ss1.example.test>
To: sip:+16505552222@ss1.example.net;user=phone
Call-ID: inv2543.1717@ift.client.example.test
CSeq: 56 INVITE

`, valid, func(t *testing.T, m *sip.Message) {
		if m.FromTag() != "" {
			t.Errorf("tag %q", m.FromTag())
		}
	}},
	{"bare line feeds end lines", "OPTIONS sip:x SIP/2.0\x01Via: SIP/2.0/UDP h\x01From: <sip:a@b>;tag=1\x01To: <sip:c@d>\x01Call-ID: 1\x01CSeq: 1 OPTIONS\x01\x01", valid, nil},

	{"empty Via parameters and values", `INVITE sip:user@example.test SIP/2.0
To: sip:j.user@example.test
From: sip:caller@example.net;tag=134161461246
Max-Forwards: 7
Call-ID: badinv01.0ha0isndaksdjasdf3234nas
CSeq: 8 INVITE
Via: SIP/2.0/UDP 192.0.2.15;;,;,,
Contact: "Joe" <sip:joe@example.org>;;;;
Content-Length: 0

`, valid, nil}, // lenient: nothing that matters is unclear
	{"more body promised than sent", `INVITE sip:user@example.test SIP/2.0
To: sip:j.user@example.test
From: sip:caller@example.net;tag=93942939o2
Call-ID: clerr.0ha0isndaksdjweiafasdk3
CSeq: 8 INVITE
Via: SIP/2.0/UDP host5.example.test;branch=z9hG4bK-39234-23523
Content-Length: 9999

v=0
`, answer, nil},
	{"a negative Content-Length", header("Content-Length: -999"), dropped, nil},
	{"two Content-Lengths that differ", header("Content-Length: 1\nl: 2"), dropped, nil},
	{"two Content-Lengths that agree", header("Content-Length: 0\nl: 0"), valid, nil},
	{"a Content-Length beyond any number", header("Content-Length: 99999999999999999999"), dropped, nil},
	{"a sequence number beyond 32 bits", replaced("CSeq: 1 OPTIONS", "CSeq: 36893488147419103232 OPTIONS"), answer, nil},
	{"an absurd Expires is no number", header("Expires: 1000000000000000000000000000"), valid, func(t *testing.T, m *sip.Message) {
		if m.Expires(42) != 42 {
			t.Errorf("Expires %d", m.Expires(42))
		}
	}},
	{"a status beyond three digits", "SIP/2.0 4294967301 better not\nVia: SIP/2.0/UDP h\nFrom: <sip:a@b>;tag=1\nTo: <sip:c@d>\nCall-ID: 1\nCSeq: 1 OPTIONS\n\n", dropped, nil},
	{"a quote that does not end", replaced("To: <sip:c@d>", `To: "Mr. J. User <sip:j.user@example.test>`), answer, nil},
	{"angle brackets around the Request-URI", replaced("OPTIONS sip:x", "OPTIONS <sip:x>"), dropped, nil},
	{"blanks inside the Request-URI", replaced("OPTIONS sip:x", "OPTIONS sip:x; lr"), dropped, nil},
	{"two blanks in the request line", replaced("OPTIONS sip:x SIP", "OPTIONS  sip:x  SIP"), dropped, nil},
	{"a blank behind the version", replaced("SIP/2.0\nVia", "SIP/2.0  \nVia"), dropped, nil},
	{"another version", replaced("SIP/2.0\nVia", "SIP/7.0\nVia"), dropped, nil},
	{"a CSeq of another method", replaced("1 OPTIONS", "1 INVITE"), answer, nil},
	{"an unknown method with the CSeq of another", strings.Replace(replaced("1 OPTIONS", "1 INVITE"), "OPTIONS sip", "NEWMETHOD sip", 1), answer, nil},
	{"no Call-ID, From, To", "INVITE sip:x SIP/2.0\nCSeq: 1 INVITE\nVia: SIP/2.0/UDP h\n\n", answer, nil},
	{"no Via", replaced("Via: SIP/2.0/UDP h\n", ""), answer, nil},
	{"several From, To, CSeq, Call-ID", header("From: <sip:x@y>;tag=2\nTo: <sip:x@y>\nCSeq: 2 OPTIONS\nCall-ID: 2"), answer, nil},
	{"blanks inside an address without brackets", replaced("To: <sip:c@d>", "To: sip:c@d  x"), answer, nil},
	{"an address without a scheme", replaced("To: <sip:c@d>", "To: <>"), answer, nil},
	{"a header without a colon", header("no colon here"), dropped, nil},
	{"a header name with a blank inside", header("X Y: z"), dropped, nil},
	{"a header that starts with a colon", header(": z"), dropped, nil},
	{"no end of the headers", "OPTIONS sip:x SIP/2.0\nVia: SIP/2.0/UDP h\n", dropped, nil},
	{"a fold before the first header", "OPTIONS sip:x SIP/2.0\n Via: SIP/2.0/UDP h\n\n", dropped, nil},
	{"nothing", "", dropped, nil},
	{"only line ends", "\n\n\n", dropped, nil},
	{"a NUL in a header name", header("X\x00Y: z"), dropped, nil},
	{"too many headers", header(strings.Repeat("X: y\n", 300) + "X: y"), dropped, nil},
	{"too many values in one header", header("Route: " + strings.Repeat("<sip:a>,", 3000) + "<sip:b>"), dropped, nil},
	{"too large headers", header("X: " + strings.Repeat("y", sip.MaxHeaderSize)), dropped, nil},
	{"one folded header that is too large", header("X: y\n" + strings.Repeat(" y\n", sip.MaxHeaderSize/3) + " y"), dropped, nil},
	{"too large a message", header("X: y") + strings.Repeat("b", sip.MaxMessage), dropped, nil},
}

const plain = "OPTIONS sip:x SIP/2.0\nVia: SIP/2.0/UDP h\nFrom: <sip:a@b>;tag=1\nTo: <sip:c@d>\nCall-ID: 1\nCSeq: 1 OPTIONS\n\n"

func replaced(old, by string) string { return strings.Replace(plain, old, by, 1) }

func header(lines string) string { return replaced("Call-ID: 1\n", "Call-ID: 1\n"+lines+"\n") }

// wire makes CRLF of LF; \x01 stands for a bare LF.
func wire(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", "\r\n"), "\x01", "\n")
}

func TestTorture(t *testing.T) {
	for _, c := range torture {
		t.Run(c.name, func(t *testing.T) {
			m, err := sip.Parse([]byte(wire(c.text)))
			got := valid
			switch {
			case err != nil && !errors.Is(err, sip.ErrSyntax):
				t.Errorf("%v is not ErrSyntax", err)
			case err != nil && m != nil:
				got = answer
			case err != nil:
				got = dropped
			}
			if got != c.want {
				t.Fatalf("fate %d, want %d (%v)", got, c.want, err)
			}
			if c.look != nil {
				c.look(t, m)
			}
			if got == valid {
				again, err := sip.Parse([]byte(m.String()))
				if err != nil || again.String() != m.String() {
					t.Errorf("printing is not stable: %v", err)
				}
			}
		})
	}
}
