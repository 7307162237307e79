package aws_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/aws"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/platformtest"
)

// address is where the emulator listens.
const address = "127.39.0.1"

var emulator string // its URL

func TestMain(m *testing.M) {
	code, err := withEmulator(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting moto:", err)
		code = 1
	}
	os.Exit(code)
}

// withEmulator starts moto for as long as the tests run.
func withEmulator(run func() int) (int, error) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-west-1",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"} {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	server, err := exec.Command("../../../../scripts/moto.sh").Output()
	if err != nil {
		return 0, fmt.Errorf("scripts/moto.sh: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	emulator = fmt.Sprintf("http://%s:%d", address, port)
	cmd := exec.Command(strings.TrimSpace(string(server)), "-H", address, "-p", fmt.Sprint(port))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := http.Get(emulator + "/moto-api/data.json")
		if err == nil {
			_ = resp.Body.Close()
			return run(), nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%w\n%s", err, log.String())
		}
		time.Sleep(50 * time.Millisecond) // between two looks, with a deadline
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return int(netip.MustParseAddrPort(l.Addr().String()).Port()), nil
}

// clients reach the emulator as somebody else would.
func clients(t *testing.T, ctx context.Context) (*ec2.Client, *route53.Client) {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithBaseEndpoint(emulator))
	if err != nil {
		t.Fatal(err)
	}
	return ec2.NewFromConfig(cfg), route53.NewFromConfig(cfg)
}

func open(t *testing.T, change func(*aws.Config)) *aws.AWS {
	t.Helper()
	cfg := aws.Config{Region: "eu-west-1", Endpoint: emulator, Poll: 10 * time.Millisecond, Tags: map[string]string{"Owner": "tests"},
		Operators: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	if change != nil {
		change(&cfg)
	}
	a, err := aws.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// image registers an AMI that says which binary it holds.
func image(t *testing.T, digest string) platform.Image {
	t.Helper()
	machines, _ := clients(t, t.Context())
	made, err := machines.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: awssdk.String("clearwater-" + digest[:8] + "-" + strings.ToLower(t.Name()))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := machines.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{awssdk.ToString(made.ImageId)},
		Tags: []ec2types.Tag{{Key: awssdk.String("clearwater:digest"), Value: &digest}}}); err != nil {
		t.Fatal(err)
	}
	return platform.Image{Path: awssdk.ToString(made.ImageId), SHA256: digest}
}

// publicZone is the account's zone of that name; it is made once.
func publicZone(t *testing.T, name string) string {
	t.Helper()
	_, zones := clients(t, t.Context())
	listed, err := zones.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{DNSName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.HostedZones) > 0 && awssdk.ToString(listed.HostedZones[0].Name) == name {
		return awssdk.ToString(listed.HostedZones[0].Id)
	}
	made, err := zones.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: &name, CallerReference: &name})
	if err != nil {
		t.Fatal(err)
	}
	return awssdk.ToString(made.HostedZone.Id)
}

func TestAWSPassesTheSuite(t *testing.T) {
	publicZone(t, "example.com.")
	images := [2]platform.Image{image(t, strings.Repeat("a", 64)), image(t, strings.Repeat("b", 64))}
	platformtest.Run(t, platformtest.Subject{Open: func(t *testing.T) platform.Platform { return open(t, nil) }, Images: images})
}
