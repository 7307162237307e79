package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const local = `
# this node
local_ip=127.0.0.1
public_ip="127.0.0.1"
public_hostname='edge-1.site1.example.com'   # where phones find it
node_role=edge
deployment_id=d1
dns_zone=example.com
`

// parse reads a shared configuration beside a valid local one.
func parse(shared string) (*Options, []Warning, error) {
	return Parse(File{LocalFile, "/etc/clearwater/local_config", local}, File{SharedFile, "/etc/clearwater/shared_config", shared})
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		shared   string
		check    func(*Options) bool
		warnings []string // a part of each
		problems []string
	}{
		"nothing yet": {check: func(o *Options) bool {
			return o.HomeDomain == "" && o.RouterHostname == "" && o.ManagementLocalIP == "127.0.0.1"
		}},
		"derived": {shared: "home_domain=example.com", check: func(o *Options) bool {
			return o.RouterHostname == "router.example.com" && o.HSSHostname == "hs.example.com:8888" && o.StoreHostname == "store.site1.example.com" &&
				o.UpstreamHostname == "icscf.router.example.com" && o.SubMaxExpires == 461*time.Second && o.HSSTimeout == 950*time.Millisecond && o.RouterCallback == "router.example.com:9888"
		}},
		"derived from what is set": {shared: "home_domain=example.com\nsprout_hostname=sprout.example.com\ndiameter_timeout_ms=100\nhomestead_provisioning_port=9000\nreg_max_expires=600",
			check: func(o *Options) bool {
				return o.UpstreamHostname == "icscf.sprout.example.com" && o.HSSTimeout == 750*time.Millisecond && o.HSSProvisioning == "hs.example.com:9000" && o.SubMaxExpires == 761*time.Second
			}},
		"quotes, comments, spaces": {shared: "  export home_domain = \"example.com\" # ours\r\n#signup_key=no\nsignup_key='a # b'\nellis_api_key=a#b\nellis_cookie_key=x # y\n",
			check: func(o *Options) bool {
				return o.HomeDomain == "example.com" && o.SignupKey == "a # b" && o.PortalAPIKey == "a#b" && o.PortalCookieKey == "x"
			}},
		"unset stays default": {shared: "reg_max_expires=\nsip_blacklist_duration=\"\"\nupstream_port= # none", check: func(o *Options) bool {
			return o.RegMaxExpires == 300*time.Second && o.SIPBlacklist == 30*time.Second && o.UpstreamPort == 5052
		}},
		"lists":      {shared: "additional_home_domains=a.com, b.com,,", check: func(o *Options) bool { return slices.Equal(o.AdditionalHomeDomains, []string{"a.com", "b.com"}) }},
		"Y and true": {shared: "nonce_count_supported=y\ndisable_tcp_switch=true", check: func(o *Options) bool { return o.NonceCount && o.DisableTCPSwitch }},
		"the last one counts": {shared: "reg_max_expires=1\nreg_max_expires=2", check: func(o *Options) bool { return o.RegMaxExpires == 2*time.Second },
			warnings: []string{"shared_config:2: reg_max_expires: set before in line 1"}},
		"unknown": {shared: "reg_max_expire=5\nnum_worker_thread=1", check: func(o *Options) bool { return o.RegMaxExpires == 300*time.Second },
			warnings: []string{"/etc/clearwater/shared_config:1: reg_max_expire: unknown option; the nearest known one is reg_max_expires", "nearest known one is num_worker_threads"}},
		"no effect": {shared: "num_worker_threads=50\nmemento_max_tokens=1000", warnings: []string{"num_worker_threads: accepted, no effect", "memento_max_tokens: accepted, no effect"}},
		"throttle": {shared: "sprout_max_tokens=5\nhomestead_prov_init_token_rate=0.5\nbono_request_queue_timeout=20", check: func(o *Options) bool {
			return o.RouterThrottle == Throttle{TargetLatency: 10000, MaxTokens: 5, MinRate: 10, QueueTimeout: 4 * time.Second} && o.ProvisioningThrottle.InitRate == 0.5 &&
				o.EdgeThrottle == Throttle{TargetLatency: 100000, MaxTokens: 1000, MinRate: 10, QueueTimeout: 20 * time.Millisecond}
		}},
		"no rate": {shared: "sprout_min_token_rate=NaN\nbono_max_token_rate=-1", problems: []string{"a number from 0", ":2: option bono_max_token_rate"}},
		"emergency": {shared: "emergency_routes=sos.fire=sip:fire@a.test,sos=sip:a.test,sos=sip:b.test;transport=tcp\nemergency_numbers=112,110:sos.police", check: func(o *Options) bool {
			return len(o.EmergencyRoutes) == 3 && o.EmergencyRoutes[2] == "sos=sip:b.test;transport=tcp" && slices.Equal(o.EmergencyNumbers, []string{"112", "110:sos.police"})
		}},
		"no emergency": {shared: "emergency_routes=fire=sip:a.test\nemergency_numbers=help", problems: []string{"emergency_routes", "emergency_numbers"}},
		"no external HSS": {shared: "hss_hostname=0.0.0.0", check: func(o *Options) bool {
			return !o.ExternalHSS() && o.ExternalHSSPort == 3868 && o.MaxPeers == 2 && o.DiameterWatchdog == 6*time.Second && o.CheckDestinationHost && o.MARSchemeDigest == "SIP Digest"
		}},
		"an external HSS":     {shared: "hss_realm=hss.example.com\nmax_peers=4", check: func(o *Options) bool { return o.ExternalHSS() && o.MaxPeers == 4 }},
		"not supported":       {shared: "billing_realm=cdf.example.com", warnings: []string{"not supported yet"}},
		"no number":           {shared: "\n\nreg_max_expires=soon", problems: []string{`/etc/clearwater/shared_config:3: option reg_max_expires: value "soon" is refused, allowed is a whole number from 1 to 2147483 (seconds)`}},
		"too low":             {shared: "max_session_expires=89\nhomestead_diameter_watchdog_timer=5", problems: []string{"max_session_expires", "from 90", "watchdog", "from 6"}},
		"too high":            {shared: "reg_max_expires=2147484\nupstream_port=65536", problems: []string{"reg_max_expires", "upstream_port"}},
		"milliseconds":        {shared: "dns_timeout=0", problems: []string{"(milliseconds)"}},
		"no bool":             {shared: "nonce_count_supported=maybe", problems: []string{"Y or N"}},
		"no host":             {shared: "home_domain=not a host", problems: []string{"a DNS name or an IP address"}},
		"no item":             {shared: "additional_home_domains=a.com,b c", problems: []string{"comma-separated list, each a DNS name"}},
		"host and port":       {shared: "hs_hostname=hs.example.com:99999", problems: []string{"host or host:port"}},
		"local one elsewhere": {shared: "local_ip=127.0.0.2", problems: []string{"only in local_config"}},
		"enum": {shared: "enum_server=10.0.0.1,10.0.0.2:5353,::1\nenum_suffix=e164.test\noverride_npdi=Y", check: func(o *Options) bool {
			return len(o.ENUMServers) == 3 && o.ENUMSuffix == "e164.test" && o.OverrideNPDI && !o.EnforceUserPhone && Defaults().ENUMSuffix == "e164.arpa"
		}},
		"too many servers": {shared: "\nenum_server=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4", problems: []string{"shared_config:2: option enum_server", "at most three servers"}},
		"no assignment":    {shared: "reg_max_expires 5", problems: []string{"name=value"}},
		"open quote":       {shared: "signup_key=\"secret", problems: []string{"option signup_key", "quotes are closed"}},
		"after the quote":  {shared: "signup_key=\"a\"b", problems: []string{"nothing after the closing quote"}},
		"all at once":      {shared: "reg_max_expires=x\nupstream_port=y\nbgcf=z", problems: []string{":1:", ":2:", ":3:"}},
		"sessions": {shared: "default_session_expires=90\nnon_register_authentication=if_proxy_authorization_present,initial_req_from_req_digest_endpoint\nscscf_uri=\"sip:scscf.x;transport=udp\"", check: func(o *Options) bool {
			return o.DefaultSession == 90*time.Second && o.MaxSession == 600*time.Second && len(o.NonRegisterAuth) == 2 && o.SCSCFURI == "sip:scscf.x;transport=udp" && o.ICSCFPrefix == "icscf"
		}},
		"authentication either way": {shared: "authentication=Y", problems: []string{"authentication", "accept_all", "either way"}},
		"authentication off":        {shared: "authentication=accept_all", check: func(o *Options) bool { return o.Authentication == "accept_all" }},
		"memento units":             {shared: "memento_disk_limit=20x", problems: []string{"percentage"}},
		"legacy value":              {shared: "sprout_target_latency_us=0", problems: []string{"from 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, warnings, err := parse(tc.shared)
			if (err != nil) != (tc.problems != nil) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tc.problems {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
			if tc.problems != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a secret is shown: %v", err)
			}
			if len(warnings) != len(tc.warnings) {
				t.Errorf("warnings %v, want %d", warnings, len(tc.warnings))
			}
			for i, want := range tc.warnings {
				if i < len(warnings) && !strings.Contains(warnings[i].String(), want) {
					t.Errorf("no %q in %s", want, warnings[i])
				}
			}
			if tc.check != nil && !tc.check(o) {
				t.Errorf("options are %+v", o)
			}
		})
	}
}

func TestRequiredOptionsAreNamed(t *testing.T) {
	_, _, err := Parse(File{LocalFile, "/c/local_config", "node_role=edge\n"})
	for _, want := range []string{"local_ip", "public_ip", "public_hostname", "deployment_id", "dns_zone"} {
		if err == nil || !strings.Contains(err.Error(), "/c/local_config: option "+want+" is missing") {
			t.Errorf("no word of %s: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "node_role") {
		t.Errorf("node_role was given: %v", err)
	}
	var p Problem
	if !errors.As(err, &p) || p.Line != 0 {
		t.Errorf("got %+v", p)
	}
}

func TestLaterFilesWin(t *testing.T) {
	o, _, err := Parse(File{LocalFile, LocalFile, local + "log_level=1\nsignaling_dns_server=127.0.0.5:5353\n"}, File{SharedFile, SharedFile, "log_level=3\nhome_domain=a.com"}, File{UserFile, UserFile, "log_level=5"})
	if err != nil || o.LogLevel != 5 || !slices.Equal(o.SignalingDNS, []string{"127.0.0.5:5353"}) {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Load(dir); err == nil || !strings.Contains(err.Error(), LocalFile) {
		t.Errorf("an empty folder: %v", err)
	}
	for name, text := range map[string]string{LocalFile: local, UserFile: "log_level=9"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := Load(dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, UserFile)+":1: option log_level") {
		t.Errorf("a bad file: %v", err)
	}
}

// Every option of the manual is known: it has an effect and the manual's default, or a reason why it has none.
func TestOptionsOfTheManual(t *testing.T) {
	text, err := os.ReadFile("testdata/manual.tsv")
	if err != nil {
		t.Fatal(err)
	}
	known := byName()
	seen := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		seen++
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		scope, name, def := f[0], f[1], f[2]
		s, ok := known[name]
		if !ok {
			s, ok = legacy(name)
		}
		switch {
		case !ok:
			t.Errorf("%s is not known", name)
		case s.scope != scope && s.scope != scopeAny && (s.scope == scopeLocal || scope == scopeLocal):
			t.Errorf("%s belongs to %s, the manual says %s", name, s.scope, scope)
		case def != "" && s.def != def:
			t.Errorf("%s defaults to %q, the manual says %q", name, s.def, def)
		}
	}
	if seen < 130 {
		t.Errorf("only %d options in the list", seen)
	}
}

func TestEveryDescriptionIsSound(t *testing.T) {
	names := map[string]bool{}
	for _, s := range append(specs(), legacyOptions()...) {
		if names[s.name] {
			t.Errorf("%s is described twice", s.name)
		}
		names[s.name] = true
		if !slices.Contains([]string{scopeLocal, scopeShared, scopeUser, scopeAny}, s.scope) {
			t.Errorf("%s has scope %q", s.name, s.scope)
		}
		if _, ok := checks[s.check]; !ok {
			t.Errorf("%s has the unknown check %q", s.name, s.check)
		}
		if slices.Contains([]kind{kindInt, kindSeconds, kindMilliseconds, kindFloat}, s.kind) && s.max <= s.min {
			t.Errorf("%s has no range", s.name)
		}
		if s.def != "" {
			if _, allowed, err := s.parse(s.def); err != nil {
				t.Errorf("the default of %s is not %s", s.name, allowed)
			}
		}
	}
	typ := reflect.TypeFor[Options]()
	for i := range typ.NumField() {
		tag := typ.Field(i).Tag
		for _, number := range []string{"min", "max"} {
			if v, ok := tag.Lookup(number); ok && strings.Trim(v, "0123456789") != "" {
				t.Errorf("%s: %s is %q", typ.Field(i).Name, number, v)
			}
		}
	}
}

// value draws a valid value of an option.
func (s spec) draw(t *rapid.T) string {
	texts := map[string]*rapid.Generator[string]{
		"": rapid.StringMatching(`[ -~äß]{1,20}`).Filter(func(v string) bool {
			return strings.TrimSpace(v) == v && !(strings.Contains(v, `"`) && strings.Contains(v, `'`))
		}),
		"ip":               rapid.SampledFrom([]string{"127.0.0.1", "2001:db8::1"}),
		"host":             rapid.StringMatching(`[a-z][a-z0-9]{0,8}(\.[a-z0-9]{1,8}){0,3}`),
		"hosts":            rapid.StringMatching(`[a-z][a-z0-9]{0,8}(\.[a-z0-9]{1,8}){0,3}`),
		"ips":              rapid.SampledFrom([]string{"127.0.0.1", "2001:db8::1"}),
		"hostport":         rapid.StringMatching(`[a-z]{1,8}(:[1-9][0-9]{0,3})?`),
		"addrports":        rapid.SampledFrom([]string{"127.0.0.1", "127.0.0.1:53", "[::1]:53"}),
		"regevent":         rapid.SampledFrom([]string{"requests", "registrations", "N"}),
		"prefixes":         rapid.SampledFrom([]string{"127.0.0.0/8", "2001:db8::/32"}),
		"domain":           rapid.SampledFrom([]string{"e164.arpa", "enum.example.com"}),
		"label":            rapid.StringMatching(`[a-z][a-z0-9]{0,8}`),
		"role":             rapid.SampledFrom([]string{"edge", "store"}),
		"engine":           rapid.SampledFrom([]string{"embedded", "cassandra"}),
		"rrlevel":          rapid.SampledFrom([]string{"pcscf", "pcscf,icscf", "pcscf,icscf,as"}),
		"drainanswer":      rapid.SampledFrom([]string{"305", "503"}),
		"ip6":              rapid.SampledFrom([]string{"::1", "2001:db8::1"}),
		"origins":          rapid.SampledFrom([]string{"example.com", "*.example.com", "https://a.example.com:8443"}),
		"emergencyroutes":  rapid.SampledFrom([]string{"sos=sip:a.test", "sos.fire=tel:112", "*=sips:psap@b.test"}),
		"emergencynumbers": rapid.SampledFrom([]string{"112", "110:sos.police"}),
		"nonregister":      rapid.SampledFrom([]string{"if_proxy_authorization_present", "initial_req_from_reg_digest_endpoint"}),
		"authentication":   rapid.SampledFrom([]string{"challenge", "accept_all"}),
		"sipuri":           rapid.SampledFrom([]string{"sip:a.example.com", "sip:a:5054"}),
	}
	switch s.kind {
	case kindInt, kindSeconds, kindMilliseconds:
		return spec{kind: kindInt}.format(int(rapid.Int64Range(s.min, s.max).Draw(t, s.name)))
	case kindFloat:
		return rapid.SampledFrom([]string{"0", "0.25", "10", "1000000.5"}).Draw(t, s.name)
	case kindBool:
		return rapid.SampledFrom([]string{"Y", "N"}).Draw(t, s.name)
	case kindList:
		return strings.Join(rapid.SliceOfN(texts[s.check], 1, 3).Draw(t, s.name), ",")
	default:
		return texts[s.check].Draw(t, s.name)
	}
}

// What Render writes, Parse reads back equal.
func TestRenderAndParseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Defaults()
		for _, s := range specs() {
			if s.required || s.name == "home_domain" || rapid.Bool().Draw(t, "set "+s.name) {
				v, allowed, err := s.parse(s.draw(t))
				if err != nil {
					t.Fatalf("drew a value that is not %s for %s", allowed, s.name)
				}
				s.assign(want, v)
			}
		}
		if problems := want.complete(placed(), ""); problems != nil {
			t.Fatal(problems)
		}
		got, warnings, err := Parse(File{LocalFile, LocalFile, want.Render(scopeLocal)}, File{SharedFile, SharedFile, want.Render(scopeShared)}, File{UserFile, UserFile, want.Render(scopeUser)})
		for _, w := range warnings {
			if s := byName()[w.Option]; s.why == "" {
				t.Fatalf("warned: %s", w)
			}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v\n%v %v\n%s", got, want, warnings, err, want.Render(scopeLocal)+want.Render(scopeShared)+want.Render(scopeUser))
		}
	})
}

// placed says that every option was set.
func placed() map[string]place {
	out := map[string]place{}
	for _, s := range specs() {
		out[s.name] = place{}
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add(local)
	f.Add("a='\n\"=x\nreg_max_expires=\"5\" # x\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, _, err := Parse(File{LocalFile, LocalFile, local}, File{SharedFile, SharedFile, text})
		if (o == nil) == (err == nil) {
			t.Errorf("options %v with error %v", o, err)
		}
	})
}

func TestRoles(t *testing.T) {
	ports := map[int]Role{}
	for _, r := range Roles() {
		for _, port := range []int{ManagementPort(r), HealthPort(r)} {
			if other, taken := ports[port]; taken {
				t.Errorf("%s and %s share port %d", r, other, port)
			}
			ports[port] = r
		}
	}
	if Role("nobody").Known() {
		t.Error("an unknown role is known")
	}
}
