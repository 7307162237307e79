package aws

import (
	"maps"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Keys of the tags by which everything is found again.
const (
	tagDeployment  = "clearwater:deployment" // uuid
	tagKind        = "clearwater:kind"       // what it is for, where the type does not say
	tagNetwork     = "clearwater:network"
	tagNode        = "clearwater:node"
	tagSite        = "clearwater:site"
	tagRole        = "clearwater:role"
	tagIndex       = "clearwater:index"
	tagIncarnation = "clearwater:incarnation"
	tagDigest      = "clearwater:digest" // of the binary in an image, and of the image that an instance runs
	tagUserData    = "clearwater:user-data"
)

// tags of one thing: the user's, the platform's, and a name for the console.
func (a *AWS) tags(name string, own map[string]string) []types.Tag {
	all := maps.Clone(a.cfg.Tags)
	if all == nil {
		all = map[string]string{}
	}
	all["Name"] = name
	maps.Copy(all, own)
	out := make([]types.Tag, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		out = append(out, types.Tag{Key: awssdk.String(key), Value: awssdk.String(all[key])})
	}
	return out
}

func (a *AWS) tagged(kind types.ResourceType, name string, own map[string]string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: a.tags(name, own)}}
}

// filters select what carries all of the tags.
func filters(own map[string]string) []types.Filter {
	var out []types.Filter
	for _, key := range slices.Sorted(maps.Keys(own)) {
		out = append(out, types.Filter{Name: awssdk.String("tag:" + key), Values: []string{own[key]}})
	}
	return out
}

// tag is the value of one tag, empty when there is none.
func tag(tags []types.Tag, key string) string {
	for _, t := range tags {
		if awssdk.ToString(t.Key) == key {
			return awssdk.ToString(t.Value)
		}
	}
	return ""
}
