// Package function holds the provider's functions: pure helpers for configurations, which ask nobody.
package function

import "github.com/hashicorp/terraform-plugin-framework/function"

// All lists the functions, in the order of the documentation.
func All() []func() function.Function {
	return []func() function.Function{NewENUMDomain, NewFilterCriteria, NewSizes}
}
