package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Warning is an option that was read past: it is unknown, or has no effect.
type Warning struct {
	File, Option, Message string
	Line                  int
}

func (w Warning) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", w.File, w.Line, w.Option, w.Message)
}

// Problem is a value that is refused, or with Line 0 one that is missing.
type Problem struct { //nolint:errname // what an operator has; the name is used by the tools
	File, Option, Value, Allowed string
	Line                         int
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: option %s is missing: %s", p.File, p.Option, p.Allowed)
	}
	return fmt.Sprintf("%s:%d: option %s: value %q is refused, allowed is %s", p.File, p.Line, p.Option, p.Value, p.Allowed)
}

// place is where an option was set.
type place struct {
	file, value string
	line        int
}

// apply reads one file into o. seen collects where options were set; later files and lines win.
func (o *Options) apply(f File, seen map[string]place) (warnings []Warning, problems []error) {
	known := byName()
	for i, line := range strings.Split(f.Text, "\n") {
		name, value, ok, wrong := assignment(line)
		if wrong != "" {
			// The value is not shown: it may be a secret.
			problems = append(problems, Problem{File: f.Path, Line: i + 1, Option: name, Value: "...", Allowed: wrong})
			continue
		}
		if !ok {
			continue
		}
		s, found := known[name]
		if !found {
			s, found = legacy(name)
		}
		if !found {
			warnings = append(warnings, Warning{f.Path, name, "unknown option; the nearest known one is " + nearest(name, known), i + 1})
			continue
		}
		if before, twice := seen[name]; twice && before.file == f.Path {
			warnings = append(warnings, Warning{f.Path, name, fmt.Sprintf("set before in line %d; this one counts", before.line), i + 1})
		}
		w, p := o.set(s, f, value, i+1)
		warnings, problems = append(warnings, w...), append(problems, p...)
		if value != "" && p == nil {
			seen[name] = place{f.Path, value, i + 1}
		}
	}
	return warnings, problems
}

// set puts one value in force.
func (o *Options) set(s spec, f File, value string, line int) (warnings []Warning, problems []error) {
	if s.scope == scopeLocal && f.Name != LocalFile {
		return nil, []error{Problem{File: f.Path, Line: line, Option: s.name, Value: value, Allowed: "only in " + LocalFile}}
	}
	if value == "" {
		return nil, nil // the manual writes unset options as name= or name=""
	}
	v, allowed, err := s.parse(value)
	if err != nil {
		return nil, []error{Problem{File: f.Path, Line: line, Option: s.name, Value: value, Allowed: allowed}}
	}
	if s.index != nil {
		s.assign(o, v)
	}
	if s.why != "" {
		warnings = []Warning{{f.Path, s.name, s.why, line}}
	}
	return warnings, nil
}

// assignment splits a shell-like line: name=value, quotes around the value, # comments. It runs no shell: what a
// shell would expand is taken as it stands. problem says what is allowed if the line is not an assignment.
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
		if rest := strings.TrimSpace(value[end+2:]); rest != "" && !strings.HasPrefix(rest, "#") {
			return name, "", false, "nothing after the closing quote"
		}
		return name, value[1 : end+1], true, ""
	}
	if strings.HasPrefix(value, "#") {
		return name, "", true, ""
	}
	if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	return name, value, true, ""
}

// complete checks what must be there and fills what derives from other options. dir is the configuration folder.
func (o *Options) complete(seen map[string]place, dir string) (problems []error) {
	for _, s := range specs() {
		if _, set := seen[s.name]; s.required && !set {
			problems = append(problems, Problem{File: filepath.Join(dir, LocalFile), Option: s.name, Allowed: "every node needs it"})
		}
	}
	if at := seen["enum_server"]; len(o.ENUMServers) > 3 {
		problems = append(problems, Problem{File: at.file, Line: at.line, Option: "enum_server", Value: at.value, Allowed: "at most three servers"})
	}
	if o.ManagementLocalIP == "" {
		o.ManagementLocalIP = o.LocalIP
	}
	if o.HomeDomain != "" { // else the shared configuration has not arrived yet
		o.derive()
	}
	return problems
}

// derive fills the defaults that depend on other options.
func (o *Options) derive() {
	or := func(field *string, format string, args ...any) {
		if *field == "" {
			*field = fmt.Sprintf(format, args...)
		}
	}
	or(&o.RouterHostname, "router.%s", o.Zone)
	or(&o.HSSHostname, "hs.%s:%d", o.Zone, PortHSS)
	or(&o.HSSProvisioning, "hs.%s:%d", o.Zone, o.ProvisioningPort)
	or(&o.XDMSHostname, "xdms.%s:%d", o.Zone, PortXDMS)
	or(&o.PortalHostname, "portal.%s", o.Zone)
	or(&o.StoreHostname, "store.%s.%s", o.Site, o.Zone)
	or(&o.RouterCallback, "%s:%d", o.RouterHostname, PortRouterHTTP)
	or(&o.UpstreamHostname, o.ICSCFPrefix+".%s", o.RouterHostname)
	if o.SubMaxExpires == 0 {
		o.SubMaxExpires = min(o.RegMaxExpires+161*time.Second, 2147483*time.Second) // 2^31 ms
	}
	if o.HSSTimeout == 0 {
		o.HSSTimeout = 550*time.Millisecond + 2*o.DiameterTimeout
	}
}

// ExternalHSS tells whether subscribers are those of an HSS that is asked over Diameter.
func (o *Options) ExternalHSS() bool {
	return o.ExternalHSSRealm != "" || o.ExternalHSSHostname != "" && o.ExternalHSSHostname != "0.0.0.0"
}
