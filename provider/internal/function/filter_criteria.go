package function

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// FilterCriteria is filter_criteria.
type FilterCriteria struct{}

// NewFilterCriteria is the constructor that the provider lists.
func NewFilterCriteria() function.Function { return FilterCriteria{} }

// Metadata implements function.Function.
func (FilterCriteria) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "filter_criteria"
}

// Definition implements function.Function.
func (FilterCriteria) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Initial filter criteria as a document",
		MarkdownDescription: "Writes the `<ServiceProfile>` document of TS 29.228 annex B for `filter_criteria` of a `clearwater_subscriber`. Each criterion is an object with " +
			"`priority` (the lowest is looked at first), `server` (SIP URI of the application server), and by choice `default_handling` (`continued`, the default, or `terminated`: what happens when the server fails), " +
			"`conditions` (a list of groups, each a list of conditions; none: every request matches), `condition_type` (`cnf`, the default: of every group one condition must hold; `dnf`: of one group every condition), " +
			"`service_info`, `include_register_request` and `include_register_response` (for third-party registrations), and `profile_part` (`registered` or `unregistered`).\n\n" +
			"A condition has exactly one of `method`, `request_uri`, `session_case` (`" + strings.Join(sessionCases, "`, `") + "`), `header` (an object with `name` and by choice `content`) and " +
			"`session_description` (`line` and by choice `content`), besides by choice `negated` and, with the method REGISTER, `registration_types` (`" + strings.Join(registrationTypes, "`, `") + "`). " +
			"`request_uri`, `name`, `line` and `content` are POSIX extended regular expressions.",
		Parameters: []function.Parameter{
			function.DynamicParameter{Name: "criteria", MarkdownDescription: "List of criteria."},
		},
		Return: function.StringReturn{},
	}
}

// Run implements function.Function.
func (FilterCriteria) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var criteria types.Dynamic
	if resp.Error = req.Arguments.Get(ctx, &criteria); resp.Error != nil {
		return
	}
	text, err := filterCriteria(criteria.UnderlyingValue())
	if err != nil {
		resp.Error = function.NewArgumentFuncError(0, err.Error())
		return
	}
	resp.Error = resp.Result.Set(ctx, text)
}

// The numbers of TS 29.228 annex B are the positions in these lists.
var (
	sessionCases      = []string{"originating", "terminating", "terminating_unregistered", "originating_unregistered", "originating_cdiv"}
	registrationTypes = []string{"initial", "reregistration", "deregistration"}
	handlings         = []string{"continued", "terminated"}
	profileParts      = []string{"registered", "unregistered"}
	conditionTypes    = []string{"dnf", "cnf"}
)

type criterion struct {
	Priority        *int          `json:"priority"`
	Server          string        `json:"server"`
	DefaultHandling string        `json:"default_handling"`
	ConditionType   string        `json:"condition_type"`
	Conditions      [][]condition `json:"conditions"`
	ServiceInfo     string        `json:"service_info"`
	Request         bool          `json:"include_register_request"`
	Response        bool          `json:"include_register_response"`
	ProfilePart     string        `json:"profile_part"`
}

type condition struct {
	Method             *string  `json:"method"`
	RequestURI         *string  `json:"request_uri"`
	SessionCase        *string  `json:"session_case"`
	Header             *header  `json:"header"`
	SessionDescription *line    `json:"session_description"`
	Negated            bool     `json:"negated"`
	RegistrationTypes  []string `json:"registration_types"`
}

type header struct {
	Name    string  `json:"name"`
	Content *string `json:"content"`
}

type line struct {
	Line    string  `json:"line"`
	Content *string `json:"content"`
}

// filterCriteria prints a list of criteria.
func filterCriteria(value attr.Value) (string, error) {
	plain, err := goValue(value)
	if err != nil {
		return "", fmt.Errorf("criteria: %w", err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return "", fmt.Errorf("criteria: %w", err)
	}
	var criteria []criterion
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&criteria); err != nil {
		return "", fmt.Errorf("criteria: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	profile := profileXML{Criteria: make([]criterionXML, 0, len(criteria))}
	for i, c := range criteria {
		x, err := c.xml()
		if err != nil {
			return "", fmt.Errorf("criteria[%d]: %w", i, err)
		}
		profile.Criteria = append(profile.Criteria, x)
	}
	out, err := xml.MarshalIndent(profile, "", "  ")
	if err != nil {
		return "", fmt.Errorf("criteria: %w", err)
	}
	return string(out) + "\n", nil
}

// goValue takes Terraform's types off a value.
func goValue(v attr.Value) (any, error) {
	if v == nil || v.IsNull() {
		return nil, nil //nolint:nilnil // null is a value
	}
	switch v := v.(type) {
	case types.String:
		return v.ValueString(), nil
	case types.Bool:
		return v.ValueBool(), nil
	case types.Number:
		return json.Number(v.ValueBigFloat().Text('f', -1)), nil
	case types.Dynamic:
		return goValue(v.UnderlyingValue())
	case types.Object:
		return goMap(v.Attributes())
	case types.Map:
		return goMap(v.Elements())
	case interface{ Elements() []attr.Value }: // list, set, tuple
		out := make([]any, 0, len(v.Elements()))
		for _, e := range v.Elements() {
			item, err := goValue(e)
			if err != nil {
				return nil, err
			}
			out = append(out, item)
		}
		return out, nil
	}
	return nil, fmt.Errorf("a value of type %T is not understood", v)
}

func goMap(elements map[string]attr.Value) (any, error) {
	out := make(map[string]any, len(elements))
	for _, name := range slices.Sorted(maps.Keys(elements)) {
		item, err := goValue(elements[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = item
	}
	return out, nil
}

// code is the position of a word in its list; an empty word has the default.
func code(attribute, word, byDefault string, words []string) (int, error) {
	if word == "" {
		word = byDefault
	}
	if i := slices.Index(words, word); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%s = %q: allowed is one of %s", attribute, word, strings.Join(words, ", "))
}

func (c criterion) xml() (criterionXML, error) {
	if c.Priority == nil || *c.Priority < 0 {
		return criterionXML{}, errors.New("priority: a number of 0 or more is required")
	}
	if !strings.HasPrefix(c.Server, "sip:") && !strings.HasPrefix(c.Server, "sips:") {
		return criterionXML{}, fmt.Errorf("server = %q: allowed is a SIP URI", c.Server)
	}
	handling, err := code("default_handling", c.DefaultHandling, "continued", handlings)
	if err != nil {
		return criterionXML{}, err
	}
	x := criterionXML{Priority: *c.Priority, Server: serverXML{Name: c.Server, Handling: handling, Info: c.ServiceInfo}}
	if c.Request || c.Response {
		x.Server.Extension = &includeXML{}
		if c.Request {
			x.Server.Extension.Request = &struct{}{}
		}
		if c.Response {
			x.Server.Extension.Response = &struct{}{}
		}
	}
	if c.ProfilePart != "" {
		part, err := code("profile_part", c.ProfilePart, "", profileParts)
		if err != nil {
			return criterionXML{}, err
		}
		x.Part = &part
	}
	if x.Trigger, err = c.trigger(); err != nil {
		return criterionXML{}, err
	}
	return x, nil
}

// trigger is nil when every request matches.
func (c criterion) trigger() (*triggerXML, error) {
	cnf, err := code("condition_type", c.ConditionType, "cnf", conditionTypes)
	if err != nil || len(c.Conditions) == 0 {
		return nil, err
	}
	t := &triggerXML{CNF: cnf}
	for group, conditions := range c.Conditions {
		if len(conditions) == 0 {
			return nil, fmt.Errorf("conditions[%d]: a group needs a condition", group)
		}
		for i, one := range conditions {
			x, err := one.xml(group)
			if err != nil {
				return nil, fmt.Errorf("conditions[%d][%d]: %w", group, i, err)
			}
			t.Conditions = append(t.Conditions, x)
		}
	}
	return t, nil
}

func (c condition) xml(group int) (conditionXML, error) {
	x := conditionXML{Group: group, Method: c.Method, RequestURI: c.RequestURI}
	if c.Negated {
		x.Negated = 1
	}
	if c.Header != nil {
		x.Header = &headerXML{Header: c.Header.Name, Content: c.Header.Content}
	}
	if c.SessionDescription != nil {
		x.Description = &lineXML{Line: c.SessionDescription.Line, Content: c.SessionDescription.Content}
	}
	if c.SessionCase != nil {
		number, err := code("session_case", *c.SessionCase, "", sessionCases)
		if err != nil {
			return x, err
		}
		x.Case = &number
	}
	kinds := 0
	for _, set := range []bool{c.Method != nil, c.RequestURI != nil, c.SessionCase != nil, c.Header != nil, c.SessionDescription != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return x, fmt.Errorf("%d of method, request_uri, session_case, header and session_description are set: exactly one is needed", kinds)
	}
	if len(c.RegistrationTypes) > 0 && (c.Method == nil || *c.Method != "REGISTER") {
		return x, errors.New(`registration_types: allowed only with method = "REGISTER"`)
	}
	for _, word := range c.RegistrationTypes {
		number, err := code("registration_types", word, "", registrationTypes)
		if err != nil {
			return x, err
		}
		if x.Extension == nil {
			x.Extension = &registrationsXML{}
		}
		x.Extension.Types = append(x.Extension.Types, number)
	}
	return x, nil
}

// The document, with its elements in the schema's order.
type profileXML struct {
	XMLName  xml.Name       `xml:"ServiceProfile"`
	Criteria []criterionXML `xml:"InitialFilterCriteria"`
}

type criterionXML struct {
	Priority int         `xml:"Priority"`
	Trigger  *triggerXML `xml:"TriggerPoint"`
	Server   serverXML   `xml:"ApplicationServer"`
	Part     *int        `xml:"ProfilePartIndicator"`
}

type triggerXML struct {
	CNF        int            `xml:"ConditionTypeCNF"`
	Conditions []conditionXML `xml:"SPT"`
}

type conditionXML struct {
	Negated     int               `xml:"ConditionNegated"`
	Group       int               `xml:"Group"`
	RequestURI  *string           `xml:"RequestURI"`
	Method      *string           `xml:"Method"`
	Header      *headerXML        `xml:"SIPHeader"`
	Case        *int              `xml:"SessionCase"`
	Description *lineXML          `xml:"SessionDescription"`
	Extension   *registrationsXML `xml:"Extension"`
}

type registrationsXML struct {
	Types []int `xml:"RegistrationType"`
}

type headerXML struct {
	Header  string  `xml:"Header"`
	Content *string `xml:"Content"`
}

type lineXML struct {
	Line    string  `xml:"Line"`
	Content *string `xml:"Content"`
}

type serverXML struct {
	Name      string      `xml:"ServerName"`
	Handling  int         `xml:"DefaultHandling"`
	Info      string      `xml:"ServiceInfo,omitempty"`
	Extension *includeXML `xml:"Extension"`
}

type includeXML struct {
	Request  *struct{} `xml:"IncludeRegisterRequest"`
	Response *struct{} `xml:"IncludeRegisterResponse"`
}
