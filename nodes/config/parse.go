package config

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Warning is an option that was read past: it is unknown, or stands in the wrong file.
type Warning struct {
	File, Option, Message string
	Line                  int
}

func (w Warning) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", w.File, w.Line, w.Option, w.Message)
}

// Problem is a value that is refused.
type Problem struct {
	File, Option, Value, Allowed string
	Line                         int
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: option %s is missing: %s", p.File, p.Option, p.Allowed)
	}
	return fmt.Sprintf("%s:%d: option %s: value %q is refused, allowed is %s", p.File, p.Line, p.Option, p.Value, p.Allowed)
}

// Defaults returns options with every documented default and nothing else.
func Defaults() *Options {
	o := &Options{}
	for _, f := range fields() {
		if def, ok := f.Tag.Lookup("default"); ok {
			if allowed, err := set(o, f, def); err != nil {
				panic(fmt.Sprintf("config: default of %s is not %s", f.Name, allowed)) //nolint:forbidigo // a wrong struct tag is a build error in disguise
			}
		}
	}
	return o
}

func fields() []reflect.StructField {
	t := reflect.TypeFor[Options]()
	out := make([]reflect.StructField, 0, t.NumField())
	for i := range t.NumField() {
		out = append(out, t.Field(i))
	}
	return out
}

// apply reads one file into o. seen collects the options that any file has set.
func (o *Options) apply(f File, seen map[string]bool) (warnings []Warning, problems []error) {
	byName := map[string]reflect.StructField{}
	for _, field := range fields() {
		byName[field.Tag.Get("option")] = field
	}
	for i, line := range strings.Split(f.Text, "\n") {
		name, value, ok, err := assignment(line)
		if err != "" {
			problems = append(problems, Problem{File: f.Path, Line: i + 1, Option: name, Value: strings.TrimSpace(line), Allowed: err})
			continue
		}
		if !ok {
			continue
		}
		field, known := byName[name]
		if !known {
			if reason, accepted := accepted(name); accepted {
				warnings = append(warnings, Warning{f.Path, name, reason, i + 1})
				continue
			}
			warnings = append(warnings, Warning{f.Path, name, "unknown option; the nearest known one is " + nearest(name, byName), i + 1})
			continue
		}
		if scope := field.Tag.Get("scope"); scope == "local" && f.Name != LocalFile {
			problems = append(problems, Problem{File: f.Path, Line: i + 1, Option: name, Value: value, Allowed: "only in " + LocalFile})
			continue
		}
		if value == "" {
			continue // the manual writes unset options as name= or name=""
		}
		if allowed, err := set(o, field, value); err != nil {
			problems = append(problems, Problem{File: f.Path, Line: i + 1, Option: name, Value: value, Allowed: allowed})
			continue
		}
		seen[name] = true
	}
	return warnings, problems
}

// assignment splits a shell-like line: name=value, quotes around the value, # comments. It runs no shell.
func assignment(line string) (name, value string, ok bool, problem string) {
	line = strings.TrimSpace(line)
	line = strings.TrimPrefix(line, "export ")
	if line == "" || strings.HasPrefix(line, "#") {
		return "", "", false, ""
	}
	name, value, found := strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	if !found || name == "" || strings.ContainsAny(name, " \t\"'") {
		return name, "", false, "name=value, one to a line"
	}
	value = strings.TrimSpace(value)
	if len(value) > 0 && (value[0] == '"' || value[0] == '\'') {
		end := strings.IndexByte(value[1:], value[0])
		if end < 0 {
			return name, "", false, "a value whose quotes are closed"
		}
		return name, value[1 : end+1], true, ""
	}
	if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	return name, value, true, ""
}

// set parses value into the field; on an error it also says what is allowed.
func set(o *Options, f reflect.StructField, value string) (allowed string, err error) {
	target := reflect.ValueOf(o).Elem().FieldByIndex(f.Index)
	switch target.Interface().(type) {
	case time.Duration:
		unit := time.Second
		if f.Tag.Get("unit") == "ms" {
			unit = time.Millisecond
		}
		n, allowed, err := number(f, value)
		if err != nil {
			return allowed, err
		}
		target.SetInt(n * int64(unit))
	case int:
		n, allowed, err := number(f, value)
		if err != nil {
			return allowed, err
		}
		target.SetInt(n)
	case bool:
		switch value {
		case "Y", "y":
			target.SetBool(true)
		case "N", "n":
			target.SetBool(false)
		default:
			return "Y or N", errValue
		}
	case []string:
		var list []string
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		for _, item := range list {
			if allowed, err := check(f.Tag.Get("check"), item); err != nil {
				return "a comma-separated list, each " + allowed, err
			}
		}
		target.Set(reflect.ValueOf(list))
	default:
		if allowed, err := check(f.Tag.Get("check"), value); err != nil {
			return allowed, err
		}
		target.SetString(value)
	}
	return "", nil
}

func number(f reflect.StructField, value string) (int64, string, error) {
	lowest, _ := strconv.ParseInt(f.Tag.Get("min"), 10, 64)
	highest, _ := strconv.ParseInt(f.Tag.Get("max"), 10, 64)
	allowed := fmt.Sprintf("a whole number from %d to %d", lowest, highest)
	if u := f.Tag.Get("unit"); u != "" {
		allowed += map[string]string{"s": " (seconds)", "ms": " (milliseconds)"}[u]
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < lowest || n > highest {
		return 0, allowed, errValue
	}
	return n, allowed, nil
}

// complete checks what must be there and fills what derives from other options.
func (o *Options) complete(seen map[string]bool) (problems []error) {
	for _, f := range fields() {
		name := f.Tag.Get("option")
		if f.Tag.Get("required") == "true" && !seen[name] && name != "home_domain" {
			problems = append(problems, Problem{File: LocalFile, Option: name, Allowed: "every node needs it"})
		}
	}
	if o.ManagementLocalIP == "" {
		o.ManagementLocalIP = o.LocalIP
	}
	if o.HomeDomain == "" {
		return problems // shared configuration has not arrived yet
	}
	zone := o.Zone
	derive := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	derive(&o.RouterHostname, "router."+zone)
	derive(&o.HSSHostname, fmt.Sprintf("hs.%s:%d", zone, PortHSS))
	derive(&o.HSSProvisioning, fmt.Sprintf("hs.%s:%d", zone, PortProvisioning))
	derive(&o.RalfHostname, fmt.Sprintf("ralf.%s:%d", zone, 10888))
	derive(&o.XDMSHostname, fmt.Sprintf("xdms.%s:%d", zone, PortXDMS))
	derive(&o.PortalHostname, "portal."+zone)
	derive(&o.StoreHostname, "store."+o.Site+"."+zone)
	derive(&o.TimersHostname, fmt.Sprintf("%s:%d", o.StoreHostname, PortTimers))
	derive(&o.RouterCallback, fmt.Sprintf("%s:%d", o.RouterHostname, PortRouterHTTP))
	derive(&o.UpstreamHostname, "icscf."+o.RouterHostname)
	if o.SubMaxExpires == 0 {
		o.SubMaxExpires = o.RegMaxExpires + 161*time.Second
	}
	if o.HSSTimeout == 0 {
		o.HSSTimeout = 550*time.Millisecond + 2*o.DiameterTimeout
	}
	return problems
}

// Render writes the options of one scope that differ from their defaults, as a file Parse reads back equal.
func (o *Options) Render(scope string) string {
	var b strings.Builder
	def := Defaults()
	for _, f := range fields() {
		if s := f.Tag.Get("scope"); s != scope && !(s == "any" && scope == "local") {
			continue
		}
		mine, theirs := reflect.ValueOf(o).Elem().FieldByIndex(f.Index), reflect.ValueOf(def).Elem().FieldByIndex(f.Index)
		if reflect.DeepEqual(mine.Interface(), theirs.Interface()) {
			continue
		}
		fmt.Fprintf(&b, "%s=%s\n", f.Tag.Get("option"), format(mine, f.Tag.Get("unit")))
	}
	return b.String()
}

func format(v reflect.Value, unit string) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		if unit == "ms" {
			return strconv.FormatInt(x.Milliseconds(), 10)
		}
		return strconv.FormatInt(int64(x/time.Second), 10)
	case bool:
		if x {
			return "Y"
		}
		return "N"
	case []string:
		return strings.Join(x, ",")
	default:
		return fmt.Sprint(x)
	}
}

// Names lists the option names of a scope, sorted.
func Names(scope string) []string {
	var out []string
	for _, f := range fields() {
		if s := f.Tag.Get("scope"); s == scope || s == "any" {
			out = append(out, f.Tag.Get("option"))
		}
	}
	sort.Strings(out)
	return out
}
