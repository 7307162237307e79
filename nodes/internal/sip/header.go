package sip

import "strings"

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

var byName = func() map[string]ID { //nolint:gochecknoglobals // a table
	m := make(map[string]ID, 2*idCount)
	for id := Via; id < idCount; id++ {
		m[headerNames[id]] = id
		m[strings.ToLower(headerNames[id])] = id
	}
	return m
}()

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
	if id, ok := byName[name]; ok {
		return id
	}
	if !isToken(name) { // lower case could make letters of what is none
		return Other
	}
	return byName[strings.ToLower(name)]
}

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
