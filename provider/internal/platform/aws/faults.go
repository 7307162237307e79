package aws

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
)

// coded tells whether Amazon's answer has one of the codes; one that ends in * is a prefix.
func coded(err error, codes ...string) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	return slices.ContainsFunc(codes, func(code string) bool {
		prefix, isPrefix := strings.CutSuffix(code, "*")
		return api.ErrorCode() == code || (isPrefix && strings.HasPrefix(api.ErrorCode(), prefix))
	})
}

// missing is an answer that the thing asked for does not exist (any more).
func missing(err error) bool {
	return coded(err, "ParameterNotFound", "NoSuchHostedZone", "InvalidInstanceID.NotFound", "InvalidNetworkInterfaceID.NotFound", "InvalidVolume.NotFound", "InvalidVpcID.NotFound",
		"InvalidSubnetID.NotFound", "InvalidGroup.NotFound", "InvalidInternetGatewayID.NotFound", "InvalidRouteTableID.NotFound",
		"InvalidAllocationID.NotFound", "InvalidAssociationID.NotFound", "Gateway.NotAttached", "InvalidAttachment.NotFound", "InvalidPermission.NotFound")
}

// advice says what people can do about an answer of Amazon.
var advice = []struct {
	codes []string
	what  string
}{
	{[]string{"UnauthorizedOperation", "AccessDenied*", "AuthorizationHeaderMalformed"}, "the credentials lack a permission; the README lists those that are needed"},
	{[]string{"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken*"}, "the credentials are wrong or have run out"},
	{[]string{"OptInRequired"}, "the account has not opted in to this region"},
	{[]string{"VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"}, "the account's quota of instances is used up: ask AWS for more (Service Quotas, EC2) or choose fewer or smaller nodes"},
	{[]string{"AddressLimitExceeded"}, "the account's quota of elastic addresses is used up: ask AWS for more (Service Quotas, EC2-VPC Elastic IPs) or use fewer edge nodes"},
	{[]string{"VpcLimitExceeded"}, "the account's quota of VPCs is used up: ask AWS for more, or delete one"},
	{[]string{"InsufficientInstanceCapacity"}, "Amazon has no such machine at this place now: try again, or choose another instance type"},
	{[]string{"InvalidAMIID*"}, "the image is not in this region: bake it there or copy it"},
	{[]string{"InvalidKeyPair.NotFound"}, "the key pair of aws.key_pair does not exist in this region"},
	{[]string{"Unsupported", "InvalidParameterValue"}, "check aws.instance_type and the image's architecture"},
}

// explain says what was being done, and what can be done about it.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	for _, a := range advice {
		if coded(err, a.codes...) {
			return fmt.Errorf("%s: %w (%s)", doing, err, a.what)
		}
	}
	if strings.Contains(err.Error(), "failed to retrieve credentials") || strings.Contains(err.Error(), "get credentials") {
		return fmt.Errorf("%s: %w (no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance profile)", doing, err)
	}
	if strings.Contains(err.Error(), "no such host") {
		return fmt.Errorf("%s: %w (is the region's name right?)", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
