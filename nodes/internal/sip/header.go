package sip

// ID names a header that some part of the core looks at.
type ID uint8

// Known headers. The order is that of headerNames.
const (
	Other ID = iota
	Via
	From
	To
	CallID
	CSeq
	Contact
	MaxForwards
	Route
	RecordRoute
	ContentLength
	ContentType
	Expires
	MinExpires
	Path
	ServiceRoute
	Supported
	Require
	ProxyRequire
	Unsupported
	Allow
	Accept
	Authorization
	WWWAuthenticate
	ProxyAuthorization
	ProxyAuthenticate
	AuthenticationInfo
	PAssertedIdentity
	PPreferredIdentity
	PAssociatedURI
	PCalledPartyID
	PServedUser
	PChargingVector
	PChargingFunctionAddresses
	PVisitedNetworkID
	PAccessNetworkInfo
	PProfileKey
	PUserDatabase
	PAssertedService
	PPreferredService
	Privacy
	Reason
	RetryAfter
	Warning
	Event
	SubscriptionState
	SessionExpires
	MinSE
	AcceptContact
	RejectContact
	RequestDisposition
	HistoryInfo
	Diversion
	ReferTo
	ReferredBy
	UserAgent
	Server
	ContentEncoding
	Subject
	AllowEvents
	SecurityClient
	SecurityServer
	SecurityVerify
	MaxBreadth
	RSeq
	RAck
	ResourcePriority
	Date
	InReplyTo
	ReplyTo
	Organization
	CallInfo
	AlertInfo
	Timestamp
	FlowTimer
	MIMEVersion
	idCount
)

var headerNames = [idCount]string{ //nolint:gochecknoglobals // a table
	"", "Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Route", "Record-Route", "Content-Length",
	"Content-Type", "Expires", "Min-Expires", "Path", "Service-Route", "Supported", "Require", "Proxy-Require",
	"Unsupported", "Allow", "Accept", "Authorization", "WWW-Authenticate", "Proxy-Authorization", "Proxy-Authenticate",
	"Authentication-Info", "P-Asserted-Identity", "P-Preferred-Identity", "P-Associated-URI", "P-Called-Party-ID",
	"P-Served-User", "P-Charging-Vector", "P-Charging-Function-Addresses", "P-Visited-Network-ID",
	"P-Access-Network-Info", "P-Profile-Key", "P-User-Database", "P-Asserted-Service", "P-Preferred-Service", "Privacy",
	"Reason", "Retry-After", "Warning", "Event", "Subscription-State", "Session-Expires", "Min-SE", "Accept-Contact",
	"Reject-Contact", "Request-Disposition", "History-Info", "Diversion", "Refer-To", "Referred-By", "User-Agent",
	"Server", "Content-Encoding", "Subject", "Allow-Events", "Security-Client", "Security-Server", "Security-Verify",
	"Max-Breadth", "RSeq", "RAck", "Resource-Priority", "Date", "In-Reply-To", "Reply-To", "Organization", "Call-Info",
	"Alert-Info", "Timestamp", "Flow-Timer", "MIME-Version",
}

// compact holds the one-letter forms (RFC 3261 7.3.3 and the IANA registry).
var compact = [26]ID{ //nolint:gochecknoglobals // a table
	0: AcceptContact, 'b' - 'a': ReferredBy, 'c' - 'a': ContentType, 'd' - 'a': RequestDisposition,
	'e' - 'a': ContentEncoding, 'f' - 'a': From, 'i' - 'a': CallID, 'j' - 'a': RejectContact, 'k' - 'a': Supported,
	'l' - 'a': ContentLength, 'm' - 'a': Contact, 'o' - 'a': Event, 'r' - 'a': ReferTo, 's' - 'a': Subject,
	't' - 'a': To, 'u' - 'a': AllowEvents, 'v' - 'a': Via, 'x' - 'a': SessionExpires,
}

// byName finds an ID by the length and the ends of a name: the candidates are few, mostly one.
var byName = func() (t [512][]ID) { //nolint:gochecknoglobals // a table
	for id := Via; id < idCount; id++ {
		h := nameHash(headerNames[id])
		t[h] = append(t[h], id)
	}
	return t
}()

// nameHash is the same for a name in any case; name has at least two characters.
func nameHash(name string) uint {
	n := len(name)
	return (uint(n) + uint(name[0]|0x20)*7 + uint(name[n-1]|0x20)*31 + uint(name[n/2]|0x20)*61) % 512
}

// String is the canonical name.
func (id ID) String() string { return headerNames[id] }

// Lookup finds the ID of a header name in any case, long or compact.
func Lookup(name string) ID {
	if len(name) == 1 {
		if c := name[0] | 0x20; c >= 'a' && c <= 'z' {
			return compact[c-'a']
		}
		return Other
	}
	if name == "" {
		return Other
	}
	for _, id := range byName[nameHash(name)] {
		if known := headerNames[id]; known == name || len(known) == len(name) && sameToken(known, name) {
			return id
		}
	}
	return Other
}

// sameToken compares ASCII text of one length without regard to case.
func sameToken(known, s string) bool {
	for i := range len(known) {
		if known[i] != s[i] && (known[i]|0x20 != s[i]|0x20 || !letters[known[i]]) {
			return false
		}
	}
	return true
}

var letters = func() (t [256]bool) { //nolint:gochecknoglobals // a table
	for c := range t {
		t[c] = c|0x20 >= 'a' && c|0x20 <= 'z' && c < 0x80
	}
	return t
}()

// isList tells the comma-separated headers that are held one value to an element.
func (id ID) isList() bool {
	switch id {
	case Via, Route, RecordRoute, Path, ServiceRoute, Contact, PAssertedIdentity, PPreferredIdentity, PAssociatedURI,
		HistoryInfo, Diversion, AcceptContact, RejectContact, Reason:
		return true
	default:
		return false
	}
}
