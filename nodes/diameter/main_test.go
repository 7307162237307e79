package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service/servicetest"
)

// TestMain is the tests, or the node itself when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv("DIAMETER_TEST_NODE") != "" {
		main()
	}
	os.Exit(m.Run())
}

// startStore serves rows and registrations in memory beside the site's other services.
func startStore(t *testing.T, s *servicetest.Site) *registrations.Memory {
	t.Helper()
	regs := registrations.NewMemory()
	handlers := records.Handlers(records.NewMemory())
	for m, h := range registrations.Handlers(regs) {
		handlers[m] = h
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.IP, config.PortStoreRPC))
	if err != nil {
		t.Fatal(err)
	}
	roots, _ := pki.Pool(s.CA.CertificatePEM())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := rpc.NewServer(pki.ServerTLS(roots, s.Source(t, "store-1.site1", "store")), handlers, slog.New(slog.DiscardHandler))
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return regs
}

// router asks as a router does.
func router(t *testing.T, s *servicetest.Site, role string, ips ...string) *hss.Client {
	t.Helper()
	roots, _ := pki.Pool(s.CA.CertificatePEM())
	c := rpc.NewClient(rpc.ClientConfig{Name: "hss", TLS: pki.ClientTLS(roots, s.Source(t, role+"-1.site1", role), "diameter"), RetryInterrupted: true,
		Resolve: func(context.Context) (out []netip.AddrPort, err error) {
			for _, ip := range ips {
				out = append(out, netip.AddrPortFrom(netip.MustParseAddr(ip), config.PortHSSRPC))
			}
			return out, nil
		}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return hss.NewClient(c)
}

func ready(t *testing.T, ip string) {
	t.Helper()
	url := fmt.Sprintf("http://%s:%d/readyz", ip, config.HealthPort(config.Diameter))
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get(url) //nolint:noctx // a test
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("%s", text)
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %v", err)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polling another process, with a deadline
	}
}

const shared = "home_domain=example.com\ncdf_identity=cdf.example.com\n"

func ask(ctx context.Context, c *hss.Client) (*hss.AuthorizeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.Authorize(ctx, &hss.AuthorizeRequest{Impi: "1@example.com", Impu: "sip:1@example.com", WantVector: true, WantProfile: true})
}

func TestNode(t *testing.T) {
	s := servicetest.NewSite(t, "127.21.10.1")
	startStore(t, s)
	const a, b = "127.21.10.2", "127.21.10.3"
	first := servicetest.Start(t, "DIAMETER_TEST_NODE=1", "--config-dir", s.Folder(t, config.Diameter, a, shared))
	second := servicetest.Start(t, "DIAMETER_TEST_NODE=1", "--config-dir", s.Folder(t, config.Diameter, b, shared))
	ready(t, a)
	ready(t, b)

	// A subscriber provisioned at one node is known to the other.
	prov := provisioning.New(fmt.Sprintf("http://%s:%d", a, config.PortProvisioning), http.DefaultClient)
	if err := prov.CreateSubscriber(t.Context(), provisioning.Subscriber{PublicIDs: []string{"sip:1@example.com"}, PrivateID: "1@example.com", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	resp, err := ask(t.Context(), router(t, s, "router", b))
	if err != nil || resp.GetDigest().GetHa1() != provisioning.HA1("1@example.com", "example.com", "p") || resp.GetServerName() != "sip:scscf.router.example.com;transport=TCP" {
		t.Fatalf("got %v, %v", resp, err)
	}
	if !strings.Contains(resp.GetRegData().GetImsSubscription(), "mmtel.example.com") || resp.GetRegData().GetCcfs()[0] != "cdf.example.com" {
		t.Errorf("profile %v", resp.GetRegData())
	}
	for port, status := range map[int]int{config.PortHSS: 200, config.PortHSSManagement: 404} {
		r, err := http.Get(fmt.Sprintf("http://%s:%d/impi/1@example.com/av?impu=sip:1@example.com", b, port)) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != status {
			t.Errorf("credentials on port %d: %d, want %d", port, r.StatusCode, status)
		}
	}
	if _, err := ask(t.Context(), router(t, s, "xdms", b)); err == nil {
		t.Error("an xdms node may ask for credentials")
	}

	// One node drains and stops while routers ask: they notice nothing.
	c := router(t, s, "router", a, b)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if resp, err := ask(t.Context(), c); err != nil || resp.GetResult() != hss.Result_RESULT_OK {
					t.Errorf("a question was lost: %v, %v", resp, err)
					return
				}
			}
		})
	}
	if err := s.Client(t, config.Diameter, a, pki.RoleOperator).Drain(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	first.Await(t, "drained: nothing is held")
	_ = first.Signal(syscall.SIGTERM)
	if code := first.Exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	close(stop)
	wg.Wait()
	_ = second.Signal(syscall.SIGTERM)
	if code := second.Exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestBadInputKillsNothing(t *testing.T) {
	s := servicetest.NewSite(t, "127.21.11.1")
	startStore(t, s)
	const ip = "127.21.11.2"
	servicetest.Start(t, "DIAMETER_TEST_NODE=1", "--config-dir", s.Folder(t, config.Diameter, ip, shared))
	ready(t, ip)
	for _, port := range []int{config.PortHSS, config.PortHSSManagement, config.PortProvisioning, config.PortHSSRPC} {
		for _, text := range []string{"\x00\x01\x02\xff", "GET /\r\n\r\n", "PUT /irs HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
			"PUT /private/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{\"a\":", "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 200_000) + "\r\n\r\n"} {
			nc, err := net.Dial("tcp", net.JoinHostPort(ip, strconv.Itoa(port))) //nolint:noctx // a test
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = nc.Write([]byte(text))
			if tcp, ok := nc.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, nc)
			_ = nc.Close()
		}
	}
	ready(t, ip)
	if _, err := ask(t.Context(), router(t, s, "router", ip)); err != nil {
		t.Errorf("after bad input: %v", err)
	}
}
