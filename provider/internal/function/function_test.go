package function

import (
	"math/big"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// call runs a function as Terraform does.
func call(t *testing.T, f function.Function, result attr.Value, args ...attr.Value) (attr.Value, string) {
	t.Helper()
	resp := &function.RunResponse{Result: function.NewResultData(result)}
	f.Run(t.Context(), function.RunRequest{Arguments: function.NewArgumentsData(args)}, resp)
	if resp.Error != nil {
		return nil, resp.Error.Text
	}
	return resp.Result.Value(), ""
}

func TestENUMDomain(t *testing.T) {
	for _, tc := range []struct{ number, suffix, want, refused string }{
		{"+16505550000", ".e164.arpa", "0.0.0.0.5.5.5.0.5.6.1.e164.arpa", ""},
		{"+1 (650) 555-00.00", "e164.arpa.", "0.0.0.0.5.5.5.0.5.6.1.e164.arpa", ""},
		{"7", "enum.example.com", "7.enum.example.com", ""},
		{"", ".e164.arpa", "", `number = ""`},
		{"+1650x", ".e164.arpa", "", `number = "+1650x"`},
		{"1234567890123456", ".e164.arpa", "", "1 to 15 digits"},
	} {
		got, failed := call(t, NewENUMDomain(), types.StringUnknown(), types.StringValue(tc.number), types.StringValue(tc.suffix))
		switch {
		case tc.refused != "":
			if !strings.Contains(failed, tc.refused) {
				t.Errorf("%q: %q, want a refusal with %q", tc.number, failed, tc.refused)
			}
		case failed != "" || !got.Equal(types.StringValue(tc.want)):
			t.Errorf("%q: %v %s, want %s", tc.number, got, failed, tc.want)
		}
	}
}

func object(t *testing.T, attributes map[string]attr.Value) attr.Value {
	t.Helper()
	kinds := map[string]attr.Type{}
	for name, v := range attributes {
		kinds[name] = v.Type(t.Context())
	}
	o, diags := types.ObjectValue(kinds, attributes)
	if diags.HasError() {
		t.Fatal(diags)
	}
	return o
}

func tuple(t *testing.T, values ...attr.Value) attr.Value {
	t.Helper()
	kinds := make([]attr.Type, len(values))
	for i, v := range values {
		kinds[i] = v.Type(t.Context())
	}
	o, diags := types.TupleValue(kinds, values)
	if diags.HasError() {
		t.Fatal(diags)
	}
	return o
}

func TestFilterCriteria(t *testing.T) {
	text := types.StringValue
	number := func(n int64) attr.Value { return types.NumberValue(big.NewFloat(float64(n))) }
	criteria := tuple(t,
		object(t, map[string]attr.Value{"priority": number(1), "server": text("sip:log.example.com")}),
		object(t, map[string]attr.Value{
			"priority": number(0), "server": text("sip:as.example.com:5062;lr"), "default_handling": text("terminated"), "condition_type": text("dnf"),
			"service_info": text("a<b"), "include_register_request": types.BoolValue(true), "profile_part": text("unregistered"),
			"conditions": tuple(t,
				tuple(t, object(t, map[string]attr.Value{"method": text("REGISTER"), "registration_types": tuple(t, text("initial"), text("deregistration"))})),
				tuple(t,
					object(t, map[string]attr.Value{"session_case": text("originating_cdiv"), "negated": types.BoolValue(true)}),
					object(t, map[string]attr.Value{"header": object(t, map[string]attr.Value{"name": text("To"), "content": text(".*sos.*")})}),
					object(t, map[string]attr.Value{"session_description": object(t, map[string]attr.Value{"line": text("m"), "content": types.StringNull()})}))),
		}))
	got, failed := call(t, NewFilterCriteria(), types.StringUnknown(), types.DynamicValue(criteria))
	if failed != "" {
		t.Fatal(failed)
	}
	const want = `<ServiceProfile>
  <InitialFilterCriteria>
    <Priority>1</Priority>
    <ApplicationServer>
      <ServerName>sip:log.example.com</ServerName>
      <DefaultHandling>0</DefaultHandling>
    </ApplicationServer>
  </InitialFilterCriteria>
  <InitialFilterCriteria>
    <Priority>0</Priority>
    <TriggerPoint>
      <ConditionTypeCNF>0</ConditionTypeCNF>
      <SPT>
        <ConditionNegated>0</ConditionNegated>
        <Group>0</Group>
        <Method>REGISTER</Method>
        <Extension>
          <RegistrationType>0</RegistrationType>
          <RegistrationType>2</RegistrationType>
        </Extension>
      </SPT>
      <SPT>
        <ConditionNegated>1</ConditionNegated>
        <Group>1</Group>
        <SessionCase>4</SessionCase>
      </SPT>
      <SPT>
        <ConditionNegated>0</ConditionNegated>
        <Group>1</Group>
        <SIPHeader>
          <Header>To</Header>
          <Content>.*sos.*</Content>
        </SIPHeader>
      </SPT>
      <SPT>
        <ConditionNegated>0</ConditionNegated>
        <Group>1</Group>
        <SessionDescription>
          <Line>m</Line>
        </SessionDescription>
      </SPT>
    </TriggerPoint>
    <ApplicationServer>
      <ServerName>sip:as.example.com:5062;lr</ServerName>
      <DefaultHandling>1</DefaultHandling>
      <ServiceInfo>a&lt;b</ServiceInfo>
      <Extension>
        <IncludeRegisterRequest></IncludeRegisterRequest>
      </Extension>
    </ApplicationServer>
    <ProfilePartIndicator>1</ProfilePartIndicator>
  </InitialFilterCriteria>
</ServiceProfile>
`
	if !got.Equal(types.StringValue(want)) {
		t.Errorf("got\n%s", got)
	}
}

func TestFilterCriteriaRefusals(t *testing.T) {
	text := types.StringValue
	base := func(more map[string]attr.Value) attr.Value {
		all := map[string]attr.Value{"priority": types.NumberValue(big.NewFloat(0)), "server": text("sip:as.example.com")}
		for name, v := range more {
			all[name] = v
		}
		return tuple(t, object(t, all))
	}
	conditions := func(condition map[string]attr.Value) attr.Value {
		return base(map[string]attr.Value{"conditions": tuple(t, tuple(t, object(t, condition)))})
	}
	for want, criteria := range map[string]attr.Value{
		"criteria[0]: priority": tuple(t, object(t, map[string]attr.Value{"server": text("sip:a")})),
		`server = "http://as"`:  base(map[string]attr.Value{"server": text("http://as")}),
		`unknown field "prio"`:  base(map[string]attr.Value{"prio": text("1")}),
		`default_handling = "drop": allowed is one of continued, ter`: base(map[string]attr.Value{"default_handling": text("drop")}),
		"conditions[0]: a group needs a condition":                    base(map[string]attr.Value{"conditions": tuple(t, tuple(t))}),
		"conditions[0][0]: 0 of method":                               conditions(map[string]attr.Value{"negated": types.BoolValue(true)}),
		"conditions[0][0]: 2 of method":                               conditions(map[string]attr.Value{"method": text("INVITE"), "request_uri": text("sos")}),
		`session_case = "orig"`:                                       conditions(map[string]attr.Value{"session_case": text("orig")}),
		"registration_types: allowed only":                            conditions(map[string]attr.Value{"method": text("INVITE"), "registration_types": tuple(t, text("initial"))}),
		"criteria: ":                                                  text("no list"),
	} {
		if _, failed := call(t, NewFilterCriteria(), types.StringUnknown(), types.DynamicValue(criteria)); !strings.Contains(failed, want) {
			t.Errorf("%q, want %q", failed, want)
		}
	}
}

func TestSizes(t *testing.T) {
	small, large := sizes(1000, 2), sizes(1_000_000, 2)
	for role, n := range map[config.Role]int64{config.Edge: 2, config.Router: 2, config.Diameter: 2, config.Store: 1, config.XDMS: 1, config.Portal: 1} {
		if small[role] != n {
			t.Errorf("1000 subscribers: %s %d, want %d", role, small[role], n)
		}
	}
	before := sizes(1, 2)
	for _, n := range []int64{10, 10_000, 49_999, 50_000, 50_001, 400_000, 1_000_000, 10_000_000} {
		now := sizes(n, 2)
		for role, count := range now {
			if count < before[role] {
				t.Errorf("%d subscribers need fewer %s nodes than less do: %d, %d", n, role, count, before[role])
			}
		}
		before = now
	}
	if large[config.Store] < 3 || sizes(embeddedSubscribers, 2)[config.Store] != 1 {
		t.Errorf("store: %d for a million, %d for %d", large[config.Store], sizes(embeddedSubscribers, 2)[config.Store], embeddedSubscribers)
	}
	if sizes(1_000_000, 8)[config.Router] >= large[config.Router] {
		t.Error("more cores do not help")
	}
	got, failed := call(t, NewSizes(), types.ObjectUnknown(countTypes()), types.Int64Value(1000), types.Int64Value(2))
	if o, ok := got.(types.Object); failed != "" || !ok || !o.Attributes()["edge"].Equal(types.Int64Value(2)) {
		t.Errorf("called: %v %s", got, failed)
	}
	if _, failed := call(t, NewSizes(), types.ObjectUnknown(countTypes()), types.Int64Value(0), types.Int64Value(2)); !strings.Contains(failed, "allowed is 1") {
		t.Errorf("no subscribers: %q", failed)
	}
}
