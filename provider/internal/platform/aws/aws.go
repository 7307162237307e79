// Package aws is the platform of Amazon Web Services: EC2 instances from baked images, security groups from the port
// table, Route 53 records, and the SSM parameter store for what the world itself cannot tell (names, certificates, keys,
// who owns which record). Everything made carries tags, and everything is found again by them: the package keeps nothing
// in memory between two calls, and each call finishes what an interrupted one began.
package aws

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Config is the provider's block `aws`.
type Config struct {
	Region     string // of networks and machines
	HomeRegion string // of the parameter store; default Region. All sites of one deployment share it.
	Profile    string // of the shared configuration files; default the environment's
	AssumeRole string // ARN; empty: none
	Endpoint   string // of every service, for emulators; empty: Amazon's own
	KMSKey     string // id or ARN for secrets and volumes; empty: the account's default keys
	KeyPair    string // name of the SSH key pair of instances; empty: none
	// Operators may reach management ports and SSH.
	Operators []netip.Prefix
	// PrivateZone makes a hosted zone for the home domain that only the deployment's networks see. Without it the home
	// domain, or a parent, must be a hosted zone of the account.
	PrivateZone bool
	// PrivateAddresses gives edges and portals no elastic addresses: a deployment for phones within the network.
	PrivateAddresses bool
	// ReachPublic says that Terraform runs outside the network and steers nodes at their public addresses.
	ReachPublic bool
	// Resolver is the host:port at which nodes resolve names; default the one that every VPC has.
	Resolver     string
	InstanceType string // default t3.medium
	DataVolume   int32  // GiB of a store node's data volume; default 20
	// FinalSnapshot keeps a snapshot of a store node's data volume when the node is deleted.
	FinalSnapshot bool
	Tags          map[string]string // on everything, besides the platform's own
	Poll          time.Duration     // between two looks at what changes slowly; default 3 s
	Backoff       time.Duration     // longest pause before a call is made again; default 20 s
}

// AWS implements platform.Platform.
type AWS struct {
	cfg     Config
	ec2     *ec2.Client
	route53 *route53.Client
	ssm     *ssm.Client
	sts     *sts.Client
	// zones orders changes of records: sets of several owners meet in one name.
	zones sync.Mutex
}

var (
	_ platform.Platform        = (*AWS)(nil)
	_ platform.PublicAddresses = (*AWS)(nil)
	_ platform.Reacher         = (*AWS)(nil)
	_ platform.Images          = (*AWS)(nil)
)

// attempts is how often a call is made that is throttled or fails at Amazon's side, with exponential back-off.
const attempts = 10

// New finds credentials and region as every AWS tool does. It asks nobody yet.
func New(ctx context.Context, cfg Config) (*AWS, error) {
	cfg.setDefaults()
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() awssdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, cfg.Backoff })
		}),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(cfg.Profile))
	}
	if cfg.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(cfg.Endpoint))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		return nil, errors.New("no region: set aws.region, AWS_REGION, or region in the shared configuration file")
	}
	if cfg.AssumeRole != "" {
		loaded.Credentials = awssdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(loaded), cfg.AssumeRole))
	}
	if cfg.Region = loaded.Region; cfg.HomeRegion == "" {
		cfg.HomeRegion = cfg.Region
	}
	home := loaded.Copy()
	home.Region = cfg.HomeRegion
	return &AWS{cfg: cfg, ec2: ec2.NewFromConfig(loaded), route53: route53.NewFromConfig(loaded), ssm: ssm.NewFromConfig(home), sts: sts.NewFromConfig(loaded)}, nil
}

func (c *Config) setDefaults() {
	if c.Resolver == "" {
		c.Resolver = vpcResolver
	}
	if c.InstanceType == "" {
		c.InstanceType = "t3.medium"
	}
	if c.DataVolume == 0 {
		c.DataVolume = 20
	}
	if c.Backoff == 0 {
		c.Backoff = 20 * time.Second
	}
	if c.Poll == 0 {
		c.Poll = 3 * time.Second
	}
}

// Check asks who the credentials belong to, so that a missing or wrong one is told before anything is made.
func (a *AWS) Check(ctx context.Context) (account string, err error) {
	out, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", explain("asking whose credentials these are", err)
	}
	return awssdk.ToString(out.Account), nil
}

// until asks again and again whether something is done.
func (a *AWS) until(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		timer := time.NewTimer(a.cfg.Poll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-timer.C:
		}
	}
}
