package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
)

// E36: what the core sends to a trunk over TLS goes to one that shows a certificate of the peers' authority, and the edge
// shows its own; to another it does not go.
func TestCallsToTrunksOverTLS(t *testing.T) {
	good, err := pki.NewDeploymentCA("peers")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := pki.NewDeploymentCA("others")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "peers.pem")
	if err := os.WriteFile(file, good.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startSite(t, "127.33.4.1", "127.33.4.2:5052", "", "tls_peer_ca_file="+file)
	router := startPeer(t, "127.33.4.3:5054")
	for i, ca := range []*pki.Authority{bad, good} {
		chain, key, err := ca.Issue(pki.Subject{Name: "sbc", Role: "peer", Addresses: []string{"127.23.6.13"}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := tls.Listen("tcp", "127.23.6.13:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.roots})
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan string, 1)
		go func() {
			defer close(seen)
			sock, err := ln.Accept()
			if err != nil {
				return
			}
			defer func() { _ = sock.Close() }()
			_ = sock.SetDeadline(time.Now().Add(10 * time.Second))
			text, err := cut(bufio.NewReader(sock))
			if err != nil {
				return
			}
			seen <- string(text)
			answer := "SIP/2.0 486 Busy Here\r\n"
			for line := range strings.Lines(string(text)) {
				for _, name := range []string{"Via:", "From:", "To:", "Call-ID:", "CSeq:"} {
					if strings.HasPrefix(line, name) {
						answer += line
					}
				}
			}
			_, _ = io.WriteString(sock, answer+"Content-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, sock)
		}()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		router.send("tcp:127.33.4.1:5058", fmt.Sprintf("MESSAGE sip:+1555@127.23.6.13:%s;transport=tls SIP/2.0\nVia: SIP/2.0/TCP 127.33.4.3:5054;branch=z9hG4bKt%d\nRoute: <sip:127.33.4.1:5058;transport=tcp;lr>\nFrom: <sip:a@ims.test>;tag=1\nTo: <sip:+1555@ims.test>\nCall-ID: t%d\nCSeq: 1 MESSAGE\nMax-Forwards: 9\nContent-Length: 0\n\n", port, i, i))
		if ca == bad {
			router.expect("503")
		} else {
			router.expect("486")
		}
		_ = ln.Close()
		text, ok := <-seen
		if ok != (ca == good) {
			t.Errorf("the trunk got %q", text)
		}
	}
}
