package wire

// AVPs of the base protocol (RFC 6733 4.5).
const (
	UserName                              = Mandatory | 1
	ProxyState                            = Mandatory | 33
	HostIPAddress                         = Mandatory | 257
	AuthApplicationID                     = Mandatory | 258
	AcctApplicationID                     = Mandatory | 259
	VendorSpecificApplicationID           = Mandatory | 260
	SessionID                             = Mandatory | 263
	OriginHost                            = Mandatory | 264
	SupportedVendorID                     = Mandatory | 265
	VendorID                              = Mandatory | 266
	FirmwareRevision            Attribute = 267
	ResultCode                            = Mandatory | 268
	ProductName                 Attribute = 269
	DisconnectCause                       = Mandatory | 273
	AuthSessionState                      = Mandatory | 277
	OriginStateID                         = Mandatory | 278
	FailedAVP                             = Mandatory | 279
	ProxyHost                             = Mandatory | 280
	ErrorMessage                Attribute = 281
	RouteRecord                           = Mandatory | 282
	DestinationRealm                      = Mandatory | 283
	ProxyInfo                             = Mandatory | 284
	DestinationHost                       = Mandatory | 293
	OriginRealm                           = Mandatory | 296
	ExperimentalResult                    = Mandatory | 297
	ExperimentalResultCode                = Mandatory | 298
	InbandSecurityID                      = Mandatory | 299
)

// Digest AVPs that Cx borrows (RFC 4740 9.5).
const (
	DigestRealm     = Mandatory | 104
	DigestQoP       = Mandatory | 110
	DigestAlgorithm = Mandatory | 111
	DigestHA1       = Mandatory | 121
)

// AVPs of Cx (TS 29.229 6.3). The names of RFC 4740 are other AVPs.
const (
	VisitedNetworkIdentifier  = Mandatory | TGPP | 600
	PublicIdentity            = Mandatory | TGPP | 601
	ServerName                = Mandatory | TGPP | 602
	ServerCapabilities        = Mandatory | TGPP | 603
	MandatoryCapability       = Mandatory | TGPP | 604
	OptionalCapability        = Mandatory | TGPP | 605
	UserData                  = Mandatory | TGPP | 606
	SIPNumberAuthItems        = Mandatory | TGPP | 607
	SIPAuthenticationScheme   = Mandatory | TGPP | 608
	SIPAuthenticate           = Mandatory | TGPP | 609
	SIPAuthorization          = Mandatory | TGPP | 610
	SIPAuthenticationContext  = Mandatory | TGPP | 611
	SIPAuthDataItem           = Mandatory | TGPP | 612
	SIPItemNumber             = Mandatory | TGPP | 613
	ServerAssignmentType      = Mandatory | TGPP | 614
	DeregistrationReason      = Mandatory | TGPP | 615
	ReasonCode                = Mandatory | TGPP | 616
	ReasonInfo                = Mandatory | TGPP | 617
	ChargingInformation       = Mandatory | TGPP | 618
	PrimaryEventCharging      = Mandatory | TGPP | 619
	SecondaryEventCharging    = Mandatory | TGPP | 620
	PrimaryCharging           = Mandatory | TGPP | 621
	SecondaryCharging         = Mandatory | TGPP | 622
	UserAuthorizationType     = Mandatory | TGPP | 623
	UserDataAlreadyAvailable  = Mandatory | TGPP | 624
	ConfidentialityKey        = Mandatory | TGPP | 625
	IntegrityKey              = Mandatory | TGPP | 626
	SupportedFeatures         = TGPP | 628 // M only where the application needs the feature (TS 29.229 7.2)
	FeatureListID             = TGPP | 629
	FeatureList               = TGPP | 630
	AssociatedIdentities      = TGPP | 632
	OriginatingRequest        = Mandatory | TGPP | 633
	WildcardedPublicIdentity  = TGPP | 634
	SIPDigestAuthenticate     = TGPP | 635
	WildcardedIMPU            = TGPP | 636
	UARFlags                  = TGPP | 637
	MultipleRegistration      = TGPP | 648
	SessionPriority           = TGPP | 650
	InitialCSeqSequenceNumber = TGPP | 654
	AssociatedRegistered      = TGPP | 647
)

// Command codes.
const (
	CapabilitiesExchange    uint32 = 257
	DeviceWatchdog          uint32 = 280
	DisconnectPeer          uint32 = 282
	UserAuthorization       uint32 = 300
	ServerAssignment        uint32 = 301
	LocationInfo            uint32 = 302
	MultimediaAuth          uint32 = 303
	RegistrationTermination uint32 = 304
	PushProfile             uint32 = 305
)

// Application ids and vendors.
const (
	Base     uint32 = 0
	Cx       uint32 = 16777216 // also Dx
	Sh       uint32 = 16777217
	Relay    uint32 = 0xffffffff
	Vendor3G uint32 = 10415
)

// Result codes (RFC 6733 7.1).
const (
	Success               uint32 = 2001
	LimitedSuccess        uint32 = 2002
	CommandUnsupported    uint32 = 3001
	UnableToDeliver       uint32 = 3002
	RealmNotServed        uint32 = 3003
	TooBusy               uint32 = 3004
	LoopDetected          uint32 = 3005
	ApplicationUnknown    uint32 = 3007
	InvalidHeaderBits     uint32 = 3008
	InvalidAVPBits        uint32 = 3009
	UnknownPeer           uint32 = 3010
	AVPUnsupported        uint32 = 5001
	InvalidAVPValue       uint32 = 5004
	MissingAVP            uint32 = 5005
	AVPOccursTooManyTimes uint32 = 5009
	NoCommonApplication   uint32 = 5010
	UnsupportedVersion    uint32 = 5011
	UnableToComply        uint32 = 5012
	InvalidAVPLength      uint32 = 5014
	InvalidMessageLength  uint32 = 5015
)
