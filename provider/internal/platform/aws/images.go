package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// errImage is an image that cannot be used.
var errImage = errors.New("image refused")

// entry of an image manifest: what matters of it here.
type entry struct {
	Role config.Role       `json:"role"`
	AMIs map[string]string `json:"amis"` // by region
}

// ResolveImage implements platform.Images: the id of an AMI, or the path of a manifest that names one for the region.
func (a *AWS) ResolveImage(ctx context.Context, image string, role config.Role) (platform.Image, error) {
	id := image
	if !strings.HasPrefix(image, "ami-") {
		var err error
		if id, err = a.fromManifest(image, role); err != nil {
			return platform.Image{}, err
		}
	}
	digest, err := a.digest(ctx, id)
	if err == nil && digest == "" {
		err = fmt.Errorf("%w: %s has no tag %s: it was not baked by this project", errImage, id, tagDigest)
	}
	return platform.Image{Path: id, SHA256: digest}, err
}

func (a *AWS) fromManifest(path string, role config.Role) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errImage, err)
	}
	var entries []entry
	if err := json.Unmarshal(text, &entries); err != nil {
		return "", fmt.Errorf("%w: manifest %s: %w", errImage, path, err)
	}
	for _, e := range entries {
		if e.Role != role {
			continue
		}
		if id := e.AMIs[a.cfg.Region]; id != "" {
			return id, nil
		}
		return "", fmt.Errorf("%w: manifest %s has no image of role %s for region %s: bake it there or copy it", errImage, path, role, a.cfg.Region)
	}
	return "", fmt.Errorf("%w: manifest %s has no entry for role %s", errImage, path, role)
}

// digest is what the AMI says of the binary that it holds.
func (a *AWS) digest(ctx context.Context, id string) (string, error) {
	out, err := a.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		return "", explain("looking for image "+id, err)
	}
	if len(out.Images) == 0 {
		return "", fmt.Errorf("%w: %s is not in %s", errImage, id, a.cfg.Region)
	}
	return tag(out.Images[0].Tags, tagDigest), nil
}

// checkImage makes sure that the AMI is the one whose digest was asked for.
func (a *AWS) checkImage(ctx context.Context, want platform.Node) error {
	have, err := a.digest(ctx, want.Image.Path)
	if err != nil {
		return fmt.Errorf("image of %s: %w", want.Name, err)
	}
	if have != want.Image.SHA256 {
		return fmt.Errorf("%w: %s has the tag %s=%s, not %s as its manifest says", errImage, want.Image.Path, tagDigest, have, want.Image.SHA256)
	}
	return nil
}
