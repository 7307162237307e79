package config

import "time"

// Options is everything one node runs with. Tags: `option` the public name, `scope` the file it belongs to,
// `default` as the manual states it, `min`/`max` for numbers, `check` a named check of check.go, `unit` of a
// duration (s or ms), `required` for what has no default, `why` the reason if it has no effect. A Throttle has `process`, the
// prefix of its options, and `latency`, the default of its target.
type Options struct {
	// This node.
	LocalIP           string `option:"local_ip" scope:"local" check:"ip" required:"true"`
	PublicIP          string `option:"public_ip" scope:"local" check:"ip" required:"true"`
	PublicHostname    string `option:"public_hostname" scope:"local" check:"host" required:"true"`
	NodeIndex         int    `option:"node_idx" scope:"local" default:"1" min:"1" max:"9999"`
	ManagementLocalIP string `option:"management_local_ip" scope:"local" check:"ip"`
	SCSCFNodeURI      string `option:"scscf_node_uri" scope:"local" check:"sipuri"`
	// Ours: what a node needs to find its deployment.
	Role          Role   `option:"node_role" scope:"local" check:"role" required:"true"`
	DeploymentID  string `option:"deployment_id" scope:"local" required:"true"`
	Site          string `option:"local_site_name" scope:"local" default:"site1" check:"label"`
	Zone          string `option:"dns_zone" scope:"local" check:"host" required:"true"`
	Incarnation   string `option:"node_incarnation" scope:"local"`
	JoinToken     string `option:"join_token" scope:"local"`
	CACertificate string `option:"ca_certificate_file" scope:"local" default:"ca.pem"`
	DataDirectory string `option:"data_directory" scope:"local" default:"data"`
	StoreEngine   string `option:"store_engine" scope:"local" default:"embedded" check:"engine"`
	// Of a store node with store_engine=cassandra: the folder whose lib/ holds its jars (empty: the folder cassandra beside
	// the program, or /usr/share/clearwater/cassandra), its Java heap, its rack, and how long the other nodes are given
	// to see a change of the ring.
	CassandraDirectory string        `option:"cassandra_directory" scope:"local"`
	CassandraHeapMB    int           `option:"cassandra_heap_mb" scope:"local" default:"512" min:"128" max:"32768"`
	CassandraRack      string        `option:"cassandra_rack" scope:"local" default:"rack1" check:"label"`
	CassandraRingDelay time.Duration `option:"cassandra_ring_delay" scope:"local" default:"10000" unit:"ms" min:"100" max:"120000"`
	LocalIPv6          string        `option:"local_ip6" scope:"local" check:"ip6"`
	PublicIPv6         string        `option:"public_ip6" scope:"local" check:"ip6"`
	TLSPeerCA          string        `option:"tls_peer_ca_file" scope:"local"`
	TLSCertificate     string        `option:"tls_certificate_file" scope:"local"`
	TLSKey             string        `option:"tls_key_file" scope:"local"`
	PortalHTTP         int           `option:"portal_http_port" scope:"local" default:"80" min:"1" max:"65535"`
	PortalHTTPS        int           `option:"portal_https_port" scope:"local" default:"443" min:"1" max:"65535"`

	// The deployment.
	HomeDomain            string        `option:"home_domain" scope:"shared" check:"host"`
	AdditionalHomeDomains []string      `option:"additional_home_domains" scope:"shared" check:"hosts"`
	RouterHostname        string        `option:"sprout_hostname" scope:"shared" check:"host"`
	HSSHostname           string        `option:"hs_hostname" scope:"shared" check:"hostport"`
	ProvisioningPort      int           `option:"homestead_provisioning_port" scope:"shared" default:"8889" min:"1" max:"65535"`
	HSSProvisioning       string        `option:"hs_provisioning_hostname" scope:"shared" check:"hostport"`
	XDMSHostname          string        `option:"xdms_hostname" scope:"shared" check:"hostport"`
	PortalHostname        string        `option:"ellis_hostname" scope:"shared" check:"host"`
	StoreHostname         string        `option:"cassandra_hostname" scope:"shared" check:"host"`
	RouterCallback        string        `option:"sprout_chronos_callback_uri" scope:"shared" check:"hostport"`
	CDFIdentity           string        `option:"cdf_identity" scope:"shared"`
	SignupKey             string        `option:"signup_key" scope:"shared"`
	PortalAPIKey          string        `option:"ellis_api_key" scope:"shared"`
	PortalCookieKey       string        `option:"ellis_cookie_key" scope:"shared"`
	UpstreamHostname      string        `option:"upstream_hostname" scope:"shared" check:"host"`
	UpstreamPort          int           `option:"upstream_port" scope:"shared" default:"5052" min:"0" max:"65535"`
	AliasList             []string      `option:"alias_list" scope:"shared" check:"hosts"`
	EdgeAliasList         []string      `option:"bono_alias_list" scope:"shared" check:"hosts"`
	RecordRouteLevel      string        `option:"sprout_rr_level" scope:"shared" default:"pcscf" check:"rrlevel"`
	RegMaxExpires         time.Duration `option:"reg_max_expires" scope:"shared" default:"300" unit:"s" min:"1" max:"2147483"`
	SubMaxExpires         time.Duration `option:"sub_max_expires" scope:"shared" unit:"s" min:"1" max:"2147483"`
	ReRegistration        time.Duration `option:"hss_reregistration_time" scope:"shared" default:"1800" unit:"s" min:"0" max:"2147483"`
	NonceCount            bool          `option:"nonce_count_supported" scope:"shared" default:"N"`
	DisableTCPSwitch      bool          `option:"disable_tcp_switch" scope:"shared" default:"N"`
	SIPBlacklist          time.Duration `option:"sip_blacklist_duration" scope:"shared" default:"30" unit:"s" min:"0" max:"86400"`
	HTTPBlacklist         time.Duration `option:"http_blacklist_duration" scope:"shared" default:"30" unit:"s" min:"0" max:"86400"`
	SIPTCPConnect         time.Duration `option:"sip_tcp_connect_timeout" scope:"shared" default:"2000" unit:"ms" min:"1" max:"60000"`
	SIPTCPSend            time.Duration `option:"sip_tcp_send_timeout" scope:"shared" default:"2000" unit:"ms" min:"1" max:"60000"`
	DiameterTimeout       time.Duration `option:"diameter_timeout_ms" scope:"shared" default:"200" unit:"ms" min:"1" max:"60000"`
	SessionContinued      time.Duration `option:"session_continued_timeout_ms" scope:"shared" default:"2000" unit:"ms" min:"1" max:"60000"`
	SessionTerminated     time.Duration `option:"session_terminated_timeout_ms" scope:"shared" default:"4000" unit:"ms" min:"1" max:"60000"`
	ApplyFallbackIFCs     bool          `option:"apply_fallback_ifcs" scope:"shared" default:"N"`
	RejectNoMatchingIFCs  bool          `option:"reject_if_no_matching_ifcs" scope:"shared" default:"N"`
	DummyAppServer        string        `option:"dummy_app_server" scope:"shared" check:"sipuri"`
	ForceThirdPartyBody   bool          `option:"force_third_party_reg_body" scope:"shared" default:"N"`
	HSSTimeout            time.Duration `option:"sprout_homestead_timeout_ms" scope:"shared" unit:"ms" min:"1" max:"121000"`
	EdgeTLSPort           int           `option:"edge_tls_port" scope:"shared" default:"5061" min:"0" max:"65535"`
	EdgeWSPort            int           `option:"edge_ws_port" scope:"shared" default:"5062" min:"0" max:"65535"`
	EdgeWSSPort           int           `option:"edge_wss_port" scope:"shared" default:"5063" min:"0" max:"65535"`
	EdgeWSOrigins         []string      `option:"edge_ws_origins" scope:"shared" check:"origins"`
	ENUMServers           []string      `option:"enum_server" scope:"shared" check:"addrports"`
	ENUMSuffix            string        `option:"enum_suffix" scope:"shared" default:"e164.arpa" check:"domain"`
	ENUMFile              string        `option:"enum_file" scope:"shared"`
	ENUMShare             bool          `option:"enum_share_by_preference" scope:"shared" default:"N"`
	OverrideNPDI          bool          `option:"override_npdi" scope:"shared" default:"N"`
	EnforceUserPhone      bool          `option:"enforce_user_phone" scope:"shared" default:"N"`
	EnforceGlobalOnly     bool          `option:"enforce_global_only_lookups" scope:"shared" default:"N"`
	// Who must prove a request other than REGISTER: if_proxy_authorization_present, initial_req_from_reg_digest_endpoint.
	NonRegisterAuth  []string      `option:"non_register_authentication" scope:"shared" check:"nonregister"`
	DefaultSession   time.Duration `option:"default_session_expires" scope:"shared" default:"600" unit:"s" min:"90" max:"2147483"`
	MaxSession       time.Duration `option:"max_session_expires" scope:"shared" default:"600" unit:"s" min:"90" max:"2147483"`
	ExternalICSCF    string        `option:"external_icscf_uri" scope:"shared" check:"sipuri"`
	StatelessProxies []string      `option:"stateless_proxies" scope:"shared" check:"hosts"`
	RegEventPartial  bool          `option:"reg_event_partial" scope:"shared" default:"N"` // ours: NOTIFYs tell what has changed, not all
	EdgePerAddress   int           `option:"edge_connections_per_address" scope:"shared" default:"2000" min:"0" max:"1000000"`
	EdgeRegEvent     string        `option:"edge_reg_event" scope:"shared" default:"requests" check:"regevent"`
	EdgeDrainAnswer  string        `option:"edge_drain_answer" scope:"shared" default:"305" check:"drainanswer"`

	// Emergency calls: where they go (in order of preference for each service, "*" for services without an entry), what
	// is dialled for them, and what is taken from phones that are not registered.
	EmergencyRoutes       []string `option:"emergency_routes" scope:"shared" check:"emergencyroutes"`
	EmergencyNumbers      []string `option:"emergency_numbers" scope:"shared" check:"emergencynumbers"`
	EmergencyRegistration bool     `option:"allow_emergency_registration" scope:"shared" default:"N"`
	EmergencyUnregistered bool     `option:"allow_unregistered_emergency_calls" scope:"shared" default:"N"`

	PBXes           []string `option:"pbxes" scope:"shared" check:"ips"`
	PBXServiceRoute string   `option:"pbx_service_route" scope:"shared" check:"sipuri"`
	// STUN and TURN on the edge.
	TURNPort       int      `option:"turn_port" scope:"shared" default:"3478" min:"0" max:"65535"`
	TURNTLSPort    int      `option:"turn_tls_port" scope:"shared" default:"5349" min:"0" max:"65535"`
	TURNWorkaround string   `option:"turn_workaround" scope:"shared"`
	TURNSecret     string   `option:"turn_rest_secret" scope:"shared"`
	TURNDenied     []string `option:"turn_denied_peers" scope:"any" default:"0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,198.18.0.0/15,224.0.0.0/3,::/127,64:ff9b::/96,fc00::/7,fe80::/10,ff00::/8" check:"prefixes"`
	TURNAllowed    []string `option:"turn_allowed_peers" scope:"any" check:"prefixes"`
	TURNPerUser    int      `option:"turn_user_allocations" scope:"shared" default:"20" min:"1" max:"100000"`
	TURNTotal      int      `option:"turn_total_allocations" scope:"shared" default:"10000" min:"1" max:"32768"`
	TURNBandwidth  int      `option:"turn_allocation_kbps" scope:"shared" default:"10000" min:"0" max:"10000000"`
	TURNMinPort    int      `option:"turn_relay_port_min" scope:"shared" default:"32768" min:"1024" max:"65535"`
	TURNMaxPort    int      `option:"turn_relay_port_max" scope:"shared" default:"65535" min:"1024" max:"65535"`
	// An external HSS, over Diameter; without hss_hostname and hss_realm subscribers are provisioned here.
	ExternalHSSRealm     string        `option:"hss_realm" scope:"shared" check:"host"`
	ExternalHSSHostname  string        `option:"hss_hostname" scope:"shared" check:"host"` // 0.0.0.0: none
	ExternalHSSPort      int           `option:"hss_port" scope:"shared" default:"3868" min:"0" max:"65535"`
	ForceHSSPeer         string        `option:"force_hss_peer" scope:"shared" check:"host"`
	MARSchemeUnknown     string        `option:"hss_mar_scheme_unknown" scope:"shared" default:"Unknown"`
	MARSchemeDigest      string        `option:"hss_mar_scheme_digest" scope:"shared" default:"SIP Digest"`
	MARSchemeAKAv1       string        `option:"hss_mar_scheme_akav1" scope:"shared" default:"Digest-AKAv1-MD5"`
	MARSchemeAKAv2       string        `option:"hss_mar_scheme_akav2" scope:"shared" default:"Digest-AKAv2-SHA-256"`
	DiameterIdentity     string        `option:"hs_diameteridentity" scope:"shared" check:"host"`
	DiameterPort         int           `option:"hs_listen_port" scope:"shared" default:"3868" min:"1" max:"65535"`
	DiameterTLSPort      int           `option:"hs_secure_listen_port" scope:"shared" min:"0" max:"65535"`
	DiameterWatchdog     time.Duration `option:"homestead_diameter_watchdog_timer" scope:"shared" default:"6" unit:"s" min:"6" max:"2147483"`
	DiameterBlacklist    time.Duration `option:"diameter_blacklist_duration" scope:"shared" default:"30" unit:"s" min:"0" max:"86400"`
	MaxPeers             int           `option:"max_peers" scope:"shared" default:"2" min:"0" max:"100"`
	CheckDestinationHost bool          `option:"check_destination_host" scope:"shared" default:"true"`
	IMPUCache            time.Duration `option:"impu_cache_ttl" scope:"shared" default:"0" unit:"s" min:"0" max:"2147483"`
	RequestSharedIFCs    bool          `option:"request_shared_ifcs" scope:"shared" default:"N"`
	// Ours: how long an identity that the HSS does not know is not asked about again, and whether our subscriber master
	// answers Cx of other cores on hs_listen_port.
	HSSNegativeCache time.Duration `option:"hss_negative_cache_ttl" scope:"shared" default:"5" unit:"s" min:"0" max:"3600"`
	HSSRole          bool          `option:"hss_role" scope:"shared" default:"N"`
	// Secrets that the provider generates; every node that needs them reads them from shared configuration.
	NonceKey string `option:"nonce_key" scope:"shared"`
	FlowKey  string `option:"flow_token_key" scope:"shared"`

	// Resolving; the manual has them in either file.
	SignalingDNS []string      `option:"signaling_dns_server" scope:"any" default:"127.0.0.1" check:"addrports"`
	DNSTimeout   time.Duration `option:"dns_timeout" scope:"shared" default:"200" unit:"ms" min:"1" max:"10000"`

	// Functions of the router: their ports (0 turns one off).
	ICSCFPort int `option:"icscf" scope:"shared" default:"5052" min:"0" max:"65535"`
	BGCFPort  int `option:"bgcf" scope:"shared" default:"5053" min:"0" max:"65535"`
	SCSCFPort int `option:"scscf" scope:"shared" default:"5054" min:"0" max:"65535"`
	// Their names: <prefix>.<sprout_hostname>, or a URI where they are reached by another name, transport or node.
	ICSCFPrefix string `option:"icscf_prefix" scope:"shared" default:"icscf" check:"label"`
	BGCFPrefix  string `option:"bgcf_prefix" scope:"shared" default:"bgcf" check:"label"`
	SCSCFPrefix string `option:"scscf_prefix" scope:"shared" default:"scscf" check:"label"`
	ICSCFURI    string `option:"icscf_uri" scope:"shared" check:"sipuri"`
	BGCFURI     string `option:"bgcf_uri" scope:"shared" check:"sipuri"`
	SCSCFURI    string `option:"scscf_uri" scope:"shared" check:"sipuri"`

	// What each process takes on before it refuses work. One process tells its own waiting from that for others, so its
	// target is lower.
	RouterThrottle       Throttle `process:"sprout" latency:"10000"`
	EdgeThrottle         Throttle `process:"bono" latency:"100000"`
	HSSThrottle          Throttle `process:"homestead" latency:"100000"`
	ProvisioningThrottle Throttle `process:"homestead_prov" latency:"100000"`
	XDMSThrottle         Throttle `process:"homer" latency:"100000"`

	// This node's verbosity and tuning.
	LogLevel            int           `option:"log_level" scope:"user" default:"2" min:"1" max:"5"`
	LogDirectory        string        `option:"log_directory" scope:"user"`
	UpstreamConnections int           `option:"upstream_connections" scope:"user" default:"50" min:"1" max:"1000"`
	UpstreamRecycle     time.Duration `option:"upstream_recycle_connections" scope:"user" unit:"s" min:"0" max:"2147483"`
	TrustedPeers        []string      `option:"trusted_peers" scope:"user" check:"ips"`
	IBCFDomain          string        `option:"ibcf_domain" scope:"user" check:"host"`
	IBCFStripIdentity   []string      `option:"ibcf_strip_identity" scope:"user" check:"ips"`
	Authentication      string        `option:"authentication" scope:"user" default:"challenge" check:"authentication"`
}

// Throttle bounds what one process takes on: a bucket of tokens, one for each request, that is filled at a rate which
// the process steers by the latency it measures. The options are <process>_<option>.
type Throttle struct {
	TargetLatency int           `option:"target_latency_us" scope:"shared" min:"1" max:"2147483647"` // microseconds
	MaxTokens     int           `option:"max_tokens" scope:"shared" default:"1000" min:"1" max:"2147483647"`
	InitRate      float64       `option:"init_token_rate" scope:"shared" min:"0" max:"2147483647"` // a second; 0: 250 for each core
	MinRate       float64       `option:"min_token_rate" scope:"shared" default:"10" min:"0" max:"2147483647"`
	MaxRate       float64       `option:"max_token_rate" scope:"shared" default:"0" min:"0" max:"2147483647"` // 0: no maximum
	QueueTimeout  time.Duration `option:"request_queue_timeout" scope:"shared" default:"4000" unit:"ms" min:"0" max:"2147483"`
}
