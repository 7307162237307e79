package provisioning

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// Listed is one public identity of a listing.
type Listed struct {
	PublicID        string `json:"public_id"`
	ServiceProfile  string `json:"sp,omitempty"`
	RegistrationSet string `json:"irs,omitempty"`
}

// ListOptions choose a part of the identities, so that a caller can ask for a long list in pieces and at its own pace.
type ListOptions struct {
	WithoutIDs bool // leave out the ids of profile and set
	Chunks     int  // divide the identities into so many parts (chunk-proportion); 0 means all of them in one answer
	Chunk      int  // which part, from 0
}

// PublicIDs lists public identities.
func (c *Client) PublicIDs(ctx context.Context, o ListOptions) ([]Listed, error) {
	query := url.Values{"excludeuuids": {strconv.FormatBool(o.WithoutIDs)}}
	if o.Chunks > 0 {
		query.Set("chunk-proportion", strconv.Itoa(o.Chunks))
		query.Set("chunk", strconv.Itoa(o.Chunk))
	}
	answer, err := c.rest.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/public/?" + query.Encode()})
	if err != nil {
		return nil, fmt.Errorf("listing public identities: %w", err)
	}
	var body struct {
		PublicIDs []Listed `json:"public_ids"`
	}
	if err := json.Unmarshal(answer.Body, &body); err != nil {
		return nil, fmt.Errorf("decoding list of public identities: %w", err)
	}
	return body.PublicIDs, nil
}
