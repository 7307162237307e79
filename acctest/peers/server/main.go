// Command server is an application server for the tests of the AS chain: a program of its own, which reads SIP with
// github.com/emiago/sipgo/sip and shares no code with the nodes. What it does to every request that it gets is told by
// -does:
//
//	silent    nothing, not even 100
//	trying    100 and nothing more
//	ring      180 and nothing more; it is there to be killed then
//	status    the answers of -status, in order ("603", "180,503"); with -contact, or this server's own
//	return    gives the request back (a proxy on ISC); -before is an answer of its own before that, -after one behind it
//	fork      gives the request back twice with the same Route, the second time to -to
//	divert    sends the request to -to instead
//	b2bua     ends the call here and makes another one back over the same Route
//
// It prints one JSON line for its address, and one for every request that comes in.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	s := &server{out: json.NewEncoder(os.Stdout), branches: map[string]*branch{}, exchanges: map[string]*exchange{}, legs: map[string]*leg{}}
	flag.StringVar(&s.does, "does", "return", "what to do")
	flag.StringVar(&s.contact, "contact", "", "Contact of redirections")
	flag.StringVar(&s.to, "to", "", "second target of fork, target of divert")
	status := flag.String("status", "", "answers")
	flag.IntVar(&s.before, "before", 0, "answer before a request is given back")
	flag.IntVar(&s.after, "after", 0, "answer after a request was given back")
	listen := flag.String("listen", "", "address:port, UDP and TCP")
	dns := flag.String("dns", "127.0.0.1:53", "name server of the deployment")
	flag.Parse()
	for _, text := range strings.FieldsFunc(*status, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, "status:", err)
			os.Exit(2)
		}
		s.statuses = append(s.statuses, n)
	}
	if s.contact == "" {
		s.contact = "sip:" + *listen
	}
	w, err := listenOn(*listen, *dns, s.message)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.wire = w
	s.print(map[string]any{"listening": *listen})
	w.serve()
}

// server is the application server.
type server struct {
	does, contact, to string
	statuses          []int
	before, after     int
	wire              *wire

	mu        sync.Mutex
	out       *json.Encoder
	branches  map[string]*branch   // what it sent, by branch
	exchanges map[string]*exchange // what it got, by branch
	legs      map[string]*leg      // of calls that end here, by Call-ID
}

func (s *server) print(v any) { _ = s.out.Encode(v) }

// message handles one message at a time.
func (s *server) message(m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.status != 0 {
		s.answered(m)
		return
	}
	if old := s.exchanges[m.branch()]; old != nil && m.method == old.request.method {
		return // a retransmission
	}
	s.print(map[string]any{"at": time.Now().UnixNano(), "from": m.from, "raw": m.raw})
	switch m.method {
	case "ACK":
		if l := s.legs[m.callID()]; l != nil && l.other != nil {
			l.other.acknowledge(s)
		}
	case "CANCEL":
		s.cancel(m)
	default:
		s.exchanges[m.branch()] = &exchange{request: m, tag: token()}
		s.request(s.exchanges[m.branch()])
	}
}

func (s *server) request(x *exchange) {
	if l := s.legs[x.request.callID()]; l != nil && x.request.method != "INVITE" {
		l.within(s, x)
		return
	}
	switch s.does {
	case "silent":
	case "trying":
		x.answer(s, 100)
	case "ring":
		x.answer(s, 180)
	case "status":
		for _, n := range s.statuses {
			x.answer(s, n)
		}
	case "fork":
		s.forward(x, x.request.uri)
		s.forward(x, s.to)
	case "divert":
		s.forward(x, s.to)
	case "b2bua":
		s.bridge(x)
	default:
		if s.before != 0 {
			x.answer(s, s.before)
		}
		s.forward(x, x.request.uri)
		if s.after != 0 {
			time.AfterFunc(50*time.Millisecond, func() { // the request is on its way by then
				s.mu.Lock()
				defer s.mu.Unlock()
				x.answer(s, s.after)
			})
		}
	}
}

// exchange is a request that came in.
type exchange struct {
	request  *message
	tag      string
	final    int
	branches []*branch
}

// answer sends an answer of its own.
func (x *exchange) answer(s *server, status int, headers ...string) {
	if x.final != 0 {
		return
	}
	if status >= 180 && len(headers) == 0 {
		headers = append(headers, "Contact: <"+s.contact+">")
	}
	if status >= 200 {
		x.final = status
	}
	x.request.reply(x.request.answer(status, x.tag, headers...))
}

// cancel ends what it got and what it sent for it.
func (s *server) cancel(m *message) {
	m.reply(m.answer(200, token()))
	x := s.exchanges[m.branch()]
	if x == nil || x.final != 0 {
		return
	}
	for _, b := range x.branches {
		b.cancel(s)
	}
	if l := s.legs[x.request.callID()]; l != nil && l.other != nil && l.other.invite != nil {
		l.other.invite.cancel(s)
	}
	x.answer(s, 487)
}
