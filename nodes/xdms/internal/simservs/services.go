package simservs

// schemaRoot describes simservs: any number of services, then extensions (TS 24.623 clause 6.3).
func schemaRoot() *rule {
	root := &rule{foreign: true, children: map[name]*rule{
		ss("extensions"): {lax: true},
		// TS 24.607 and TS 24.608.
		ss("originating-identity-presentation"):             service(nil),
		ss("terminating-identity-presentation"):             service(nil),
		ss("originating-identity-presentation-restriction"): service(map[name]*rule{ss("default-behaviour"): behaviour()}),
		ss("terminating-identity-presentation-restriction"): service(map[name]*rule{ss("default-behaviour"): behaviour()}),
		// TS 24.604.
		ss("communication-diversion"): service(map[name]*rule{ss("NoReplyTimer"): {text: isReply}, cp("ruleset"): ruleset(forwarding())}),
		// TS 24.611.
		ss("incoming-communication-barring"): service(map[name]*rule{cp("ruleset"): ruleset(barring())}),
		ss("outgoing-communication-barring"): service(map[name]*rule{cp("ruleset"): ruleset(barring())}),
		// TS 24.615, TS 24.616, TS 24.654, TS 24.239: switched on or off, with content that no function here reads.
		ss("communication-waiting"):                  service(nil),
		ss("malicious-communication-identification"): {lax: true},
		ss("closed-user-group"):                      {lax: true},
		ss("flexible-alerting-default"):              {lax: true},
		ss("flexible-alerting-specific"):             {lax: true},
	}}
	for _, r := range root.children {
		r.many = true // xs:choice maxOccurs unbounded; readers take the first
	}
	return root
}

func ss(local string) name { return name{Namespace, local} }
func cp(local string) name { return name{CommonPolicy, local} }

func service(children map[name]*rule) *rule {
	return &rule{attributes: map[string]value{"active": isBoolean}, children: children}
}

func behaviour() *rule {
	return &rule{attributes: map[string]value{}, text: oneOf("presentation-restricted", "presentation-not-restricted")}
}

// ruleset is that of RFC 4745 section 13 with the actions of one service.
func ruleset(actions map[name]*rule) *rule {
	return &rule{attributes: map[string]value{}, children: map[name]*rule{cp("rule"): {
		many:       true,
		attributes: map[string]value{"id": isID},
		required:   []string{"id"},
		children: map[name]*rule{
			cp("conditions"):      conditions(),
			cp("actions"):         {attributes: map[string]value{}, foreign: true, children: actions},
			cp("transformations"): {lax: true},
		},
	}}}
}

// conditions are those of RFC 4745 and of TS 24.604 and TS 24.611.
func conditions() *rule {
	children := map[name]*rule{
		cp("identity"): {many: true, children: map[name]*rule{cp("one"): {lax: true, many: true}, cp("many"): {lax: true, many: true}}, foreign: true},
		cp("sphere"):   {many: true, attributes: map[string]value{"value": isText}, required: []string{"value"}},
		cp("validity"): {many: true, required: []string{"from", "until"}, children: map[name]*rule{
			cp("from"): {many: true, text: isTime}, cp("until"): {many: true, text: isTime},
		}},
		ss("media"):           {many: true, text: isText},
		ss("presence-status"): {many: true, text: isText},
	}
	for _, flag := range []string{
		"busy", "no-answer", "not-reachable", "not-registered", "rule-deactivated", "anonymous", "roaming", "international",
		"international-exHC", "communication-diverted", "unconditional",
	} {
		children[ss(flag)] = &rule{many: true, attributes: map[string]value{}}
	}
	return &rule{attributes: map[string]value{}, foreign: true, children: children}
}

// forwarding is the action of communication diversion: TS 24.604 clause 4.9.1.4.
func forwarding() map[name]*rule {
	flag, reveal := &rule{text: isBoolean}, &rule{text: oneOf("true", "false", "not-reveal-GRUU")}
	return map[name]*rule{
		ss("forward-to"): {attributes: map[string]value{}, required: []string{"target"}, children: map[name]*rule{
			ss("target"):                                {text: isURI},
			ss("notify-caller"):                         flag,
			ss("notify-served-user"):                    flag,
			ss("notify-served-user-on-outbound-call"):   flag,
			ss("reveal-identity-to-caller"):             reveal,
			ss("reveal-served-user-identity-to-caller"): reveal,
			ss("reveal-identity-to-target"):             reveal,
			ss("reveal-served-user-identity-to-target"): reveal,
		}},
		ss("play-announcement"): {text: isURI},
	}
}

func barring() map[name]*rule {
	return map[name]*rule{ss("allow"): {text: isBoolean}, ss("play-announcement"): {text: isURI}}
}
