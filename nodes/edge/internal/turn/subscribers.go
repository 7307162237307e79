package turn

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// Digests finds keys by asking for the digest credentials of a subscriber.
type Digests struct {
	HSS interface {
		Authorize(ctx context.Context, req *hss.AuthorizeRequest) (*hss.AuthorizeResponse, error)
	}
	Realm func() string // the home domain
}

// Key implements Subscribers. A user name is the private identity, with its @ plain or as %40 (as the manual has it, for
// browsers that take a URL), a number alone in the home domain. Where %40 went into the client's own HA1, only a
// subscriber whose password is kept in plain text can be known by it.
func (d Digests) Key(ctx context.Context, username string) (string, error) {
	impi := strings.TrimPrefix(username, "sip:")
	if plain, err := url.PathUnescape(impi); err == nil {
		impi = strings.TrimPrefix(plain, "sip:")
	}
	impu := "sip:" + impi
	if !strings.Contains(impi, "@") {
		impu += "@" + d.Realm()
	}
	req := &hss.AuthorizeRequest{Impi: impi, Impu: impu, Scheme: "digest", WantVector: true}
	if username != impi {
		req.DigestUser = username
	}
	resp, err := d.HSS.Authorize(ctx, req)
	if err != nil {
		return "", fmt.Errorf("asking for the credentials of a TURN user: %w", err)
	}
	switch resp.GetResult() {
	case hss.Result_RESULT_OK:
	case hss.Result_RESULT_UNAVAILABLE, hss.Result_RESULT_TIMEOUT:
		return "", fmt.Errorf("asking for the credentials of a TURN user: %s: %s", resp.GetResult(), resp.GetDetail())
	default:
		return "", fmt.Errorf("%w: %s", ErrUnknown, resp.GetDetail())
	}
	key, err := hex.DecodeString(resp.GetDigest().GetHa1())
	if err != nil || len(key) == 0 {
		return "", fmt.Errorf("%w: no usable HA1", ErrUnknown)
	}
	return string(key), nil
}
