package aws_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/clearwater-ims/clearwater/acctest/moto"
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
	for name, value := range moto.Environment() {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	url, stop, err := moto.Start(context.Background(), "../../../..", address)
	if err != nil {
		return 0, err
	}
	defer stop()
	emulator = url
	return run(), nil
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
