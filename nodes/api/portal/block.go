package portal

import (
	"context"
	"fmt"
	"net/http"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// NumberBlock is a run of numbers in the pool. Start names it: the first number as digits, 6505550000, without +.
type NumberBlock struct {
	Start string `json:"start"`
	Count int    `json:"count"`           // 1 to 1000000
	PSTN  bool   `json:"pstn"`            // the numbers are reachable from outside and written +1...
	Realm string `json:"realm,omitempty"` // domain of the identities; empty means the home domain
	// Filled by the portal.
	Created int    `json:"created"`           // by this PUT
	Present int    `json:"present"`           // were there before this PUT
	Free    int    `json:"free"`              // not given to anybody
	InUse   int    `json:"in_use"`            // lines of accounts
	Message string `json:"message,omitempty"` // "Created 1000 numbers, 0 already present"
}

// PutNumberBlock creates the numbers of a block that are not there yet. If the block shrank, its free numbers beyond the
// end leave the pool. Repeating it changes nothing. pstn and realm of an existing block cannot change (409).
func (c *Client) PutNumberBlock(ctx context.Context, b NumberBlock) (*NumberBlock, error) {
	var out NumberBlock
	if err := c.rest.JSON(ctx, http.MethodPut, "/number-blocks/"+rest.Escape(b.Start), b, &out); err != nil {
		return nil, fmt.Errorf("writing number block %s: %w", b.Start, err)
	}
	return &out, nil
}

// NumberBlock reads a block; 404 (rest.IsNotFound) if there is none.
func (c *Client) NumberBlock(ctx context.Context, start string) (*NumberBlock, error) {
	var out NumberBlock
	if err := c.rest.JSON(ctx, http.MethodGet, "/number-blocks/"+rest.Escape(start), nil, &out); err != nil {
		return nil, fmt.Errorf("reading number block %s: %w", start, err)
	}
	return &out, nil
}

// NumberBlocks lists all blocks, without their counts of free numbers and numbers in use.
func (c *Client) NumberBlocks(ctx context.Context) ([]NumberBlock, error) {
	var out struct {
		Blocks []NumberBlock `json:"number_blocks"`
	}
	if err := c.rest.JSON(ctx, http.MethodGet, "/number-blocks", nil, &out); err != nil {
		return nil, fmt.Errorf("listing number blocks: %w", err)
	}
	return out.Blocks, nil
}

// DeleteNumberBlock takes the free numbers of a block out of the pool; lines in use stay until they are released.
// A block that does not exist counts as deleted.
func (c *Client) DeleteNumberBlock(ctx context.Context, start string) error {
	err := c.rest.JSON(ctx, http.MethodDelete, "/number-blocks/"+rest.Escape(start), nil, nil)
	if err != nil && !rest.IsNotFound(err) {
		return fmt.Errorf("deleting number block %s: %w", start, err)
	}
	return nil
}
