package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
)

// listBlocks is GET /number-blocks.
func (h *Handler) listBlocks(ctx context.Context, c *call) (int, any, error) {
	if err := h.needKey(c); err != nil {
		return 0, nil, err
	}
	blocks, err := h.deps.Numbers.Blocks(ctx)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	out := make([]portal.NumberBlock, 0, len(blocks))
	for _, b := range blocks {
		out = append(out, describeBlock(b, numbers.Counts{}))
	}
	return 0, map[string]any{"number_blocks": out}, nil
}

// block is GET /number-blocks/<start>.
func (h *Handler) block(ctx context.Context, c *call) (int, any, error) {
	if err := h.needKey(c); err != nil {
		return 0, nil, err
	}
	b, counts, err := h.deps.Numbers.Block(ctx, c.PathValue("start"))
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	return 0, describeBlock(b, counts), nil
}

// putBlock is PUT /number-blocks/<start>.
func (h *Handler) putBlock(ctx context.Context, c *call) (int, any, error) {
	if err := h.needKey(c); err != nil {
		return 0, nil, err
	}
	if start := c.arg("start"); start != "" && start != c.PathValue("start") {
		return 0, nil, fail(http.StatusBadRequest, "start in the body differs from the path")
	}
	count, err := strconv.Atoi(c.arg("count"))
	if err != nil {
		return 0, nil, fail(http.StatusBadRequest, "count must be a whole number")
	}
	pstn, err := c.flag("pstn")
	if err != nil {
		return 0, nil, err
	}
	b := numbers.Block{Start: c.PathValue("start"), Count: count, PSTN: pstn, Realm: c.arg("realm")}
	if b.Realm == "" {
		b.Realm = h.deps.Settings().HomeDomain
	}
	counts, err := h.deps.Numbers.PutBlock(ctx, b)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	out := describeBlock(b, counts)
	out.Message = fmt.Sprintf("Created %d numbers, %d already present", counts.Created, counts.Present)
	h.deps.Log.Info("number block written", "start", b.Start, "created", counts.Created, "present", counts.Present)
	return 0, out, nil
}

// deleteBlock is DELETE /number-blocks/<start>.
func (h *Handler) deleteBlock(ctx context.Context, c *call) (int, any, error) {
	if err := h.needKey(c); err != nil {
		return 0, nil, err
	}
	if err := h.deps.Numbers.DeleteBlock(ctx, c.PathValue("start")); err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	return http.StatusNoContent, nil, nil
}

func describeBlock(b numbers.Block, n numbers.Counts) portal.NumberBlock {
	return portal.NumberBlock{
		Start: b.Start, Count: b.Count, PSTN: b.PSTN, Realm: b.Realm,
		Created: n.Created, Present: n.Present, Free: n.Free, InUse: n.InUse,
	}
}

// sync is POST /sync: what of the portal and the subscribers does not agree; with repair=true it is mended.
func (h *Handler) sync(ctx context.Context, c *call) (int, any, error) {
	if err := h.needKey(c); err != nil {
		return 0, nil, err
	}
	repair, err := c.flag("repair")
	if err != nil {
		return 0, nil, err
	}
	found, err := h.deps.Numbers.Sync(ctx, repair)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	return 0, portal.SyncFindings{Lines: found.Lines, Lost: found.Lost, Orphans: found.Orphans}, nil
}
