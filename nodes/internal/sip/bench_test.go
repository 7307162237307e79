package sip_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

var offer = []byte(strings.ReplaceAll(`INVITE sip:6505501000@ims.test SIP/2.0
Via: SIP/2.0/UDP 127.31.0.230:5070;branch=z9hG4bK-71277-1-0;rport
Max-Forwards: 70
From: <sip:6505500000@ims.test>;tag=71277c1
To: <sip:6505501000@ims.test>
Call-ID: 1-71277@127.31.0.230
CSeq: 1 INVITE
Contact: <sip:6505500000@127.31.0.230:5070;transport=UDP>;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"
P-Preferred-Identity: <sip:6505500000@ims.test>
P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=001010001000019B
Supported: 100rel, timer, precondition
Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, MESSAGE, OPTIONS, NOTIFY
Accept: application/sdp, application/3gpp-ims+xml
Content-Type: application/sdp
Content-Length:   186

v=0
o=- 53655765 2353687637 IN IP4 127.31.0.230
s=-
c=IN IP4 127.31.0.230
t=0 0
m=audio 6000 RTP/AVP 96 97
a=rtpmap:96 AMR-WB/16000
a=rtpmap:97 telephone-event/16000
a=sendrecv
`, "\n", "\r\n"))

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sip.Parse(offer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	m, err := sip.Parse(offer)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	buf := make([]byte, 0, 2048)
	for b.Loop() {
		buf = m.AppendTo(buf[:0])
	}
}

func BenchmarkNewResponse(b *testing.B) {
	m, err := sip.Parse(offer)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = m.NewResponse(200, "", "tag")
	}
}

// TestParseAllocations fails when scanning a message costs more memory than its text and its list of headers.
func TestParseAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = sip.Parse(offer) }); n > 3 {
		t.Errorf("%v allocations, at most 3 are wanted: message, text, headers", n)
	}
}
