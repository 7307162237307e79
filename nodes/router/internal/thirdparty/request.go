package thirdparty

import (
	"encoding/xml"
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

// request is the REGISTER to one server (TS 24.229 5.4.1.7). One that is owed has a Call-ID of its effect's, so that its
// repeat after the death of a node can be known; index tells the servers of one event apart.
func (s *Servers) request(e *registrar.Event, server *ifc.Server, index int) *sip.Message {
	self := s.deps.Names().ServerName()
	id := e.ID
	if id == "" {
		id = transaction.NewTag() + transaction.NewTag()
	}
	id += "-" + strconv.Itoa(index)
	m := &sip.Message{Method: sip.REGISTER, URI: server.Name}
	m.Add(sip.MaxForwards, "70")
	m.Add(sip.From, "<"+self+">;tag="+id)
	m.Add(sip.To, "<"+e.Identity.URI+">")
	m.Add(sip.CallID, id)
	m.Add(sip.CSeq, "1 REGISTER")
	m.Add(sip.Contact, "<"+self+">")
	m.Add(sip.Expires, strconv.Itoa(int((e.Lasts+time.Second-1)/time.Second)))
	if e.Request != nil {
		for _, h := range []sip.ID{sip.PAccessNetworkInfo, sip.PVisitedNetworkID, sip.PChargingVector} {
			for _, v := range e.Request.All(h) {
				m.Add(h, v)
			}
		}
	}
	if e.Response != nil {
		for _, v := range e.Response.All(sip.PChargingFunctionAddresses) {
			m.Add(sip.PChargingFunctionAddresses, v)
		}
	}
	s.addBody(m, e, server)
	return m
}

type part struct{ kind, text string }

// addBody puts in what the criterion asks for: service information, and the REGISTER and its 200 where there are such.
func (s *Servers) addBody(m *sip.Message, e *registrar.Event, server *ifc.Server) {
	var parts []part
	if server.ServiceInfo != "" {
		parts = append(parts, part{"application/3gpp-ims+xml", serviceInfo(server.ServiceInfo)})
	}
	force := s.deps.ForceBody()
	if e.Request != nil && (server.Request || force) {
		parts = append(parts, part{"message/sip", e.Request.String()})
	}
	if e.Response != nil && (server.Response || force) {
		parts = append(parts, part{"message/sip", e.Response.String()})
	}
	switch len(parts) {
	case 0:
	case 1:
		m.Add(sip.ContentType, parts[0].kind)
		m.Body = parts[0].text
	default:
		boundary := boundaryFor(parts)
		m.Add(sip.MIMEVersion, "1.0")
		m.Add(sip.ContentType, `multipart/mixed;boundary="`+boundary+`"`)
		var b strings.Builder
		for _, p := range parts {
			b.WriteString("--" + boundary + "\r\nContent-Type: " + p.kind + "\r\n\r\n" + p.text + "\r\n")
		}
		b.WriteString("--" + boundary + "--\r\n")
		m.Body = b.String()
	}
}

// boundaryFor is a line that is in none of the parts (RFC 2046 5.1.1).
func boundaryFor(parts []part) string {
	for boundary := "part"; ; boundary += transaction.NewTag() {
		taken := false
		for _, p := range parts {
			taken = taken || strings.Contains(p.text, "--"+boundary)
		}
		if !taken {
			return boundary
		}
	}
}

// serviceInfo is the document of TS 24.229 7.6.
func serviceInfo(text string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ims-3gpp version="1"><service-info>`)
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	b.WriteString("</service-info></ims-3gpp>")
	return b.String()
}
