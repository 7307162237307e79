package function

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/function"
)

// ENUMDomain is enum_domain.
type ENUMDomain struct{}

// NewENUMDomain is the constructor that the provider lists.
func NewENUMDomain() function.Function { return ENUMDomain{} }

// Metadata implements function.Function.
func (ENUMDomain) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "enum_domain"
}

// Definition implements function.Function.
func (ENUMDomain) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "DNS name of a telephone number",
		MarkdownDescription: "The name whose NAPTR records ENUM asks for (RFC 6116 section 3.2): the number's digits in reverse order, with dots between, before the suffix. " +
			"Use it to write the records of your own ENUM zone.",
		Parameters: []function.Parameter{
			function.StringParameter{Name: "number", MarkdownDescription: "Number in international form, such as `+16505550000`; `-`, `.`, `(`, `)` and spaces are left out."},
			function.StringParameter{Name: "suffix", MarkdownDescription: "Suffix of the zone, the option `enum_suffix` of `shared_config`; `.e164.arpa` in public."},
		},
		Return: function.StringReturn{},
	}
}

// Run implements function.Function.
func (ENUMDomain) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var number, suffix string
	if resp.Error = req.Arguments.Get(ctx, &number, &suffix); resp.Error != nil {
		return
	}
	name, err := enumDomain(number, suffix)
	if err != nil {
		resp.Error = function.NewArgumentFuncError(0, err.Error())
		return
	}
	resp.Error = resp.Result.Set(ctx, name)
}

// longestE164 is the number of digits of the longest number (ITU-T E.164).
const longestE164 = 15

func enumDomain(number, suffix string) (string, error) {
	digits := strings.TrimPrefix(strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.() ", r) {
			return -1
		}
		return r
	}, number), "+")
	if digits == "" || len(digits) > longestE164 || strings.Trim(digits, "0123456789") != "" {
		return "", fmt.Errorf("number = %q: allowed is a number of 1 to %d digits, with or without +", number, longestE164)
	}
	var name strings.Builder
	for i := len(digits) - 1; i >= 0; i-- {
		name.WriteByte(digits[i])
		name.WriteByte('.')
	}
	return name.String() + strings.Trim(suffix, "."), nil
}
