package document

import (
	"errors"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
)

// criteria checks shared_ifcs or fallback_ifcs. A router would leave a wrong criterion out and go on; who uploads one is
// better told.
func criteria(typ, text string) error {
	if err := wellFormed(typ, text); err != nil {
		return err
	}
	var broken []error
	var err error
	if typ == "shared_ifcs" {
		_, broken, err = ifc.ParseSets(text)
	} else {
		_, broken, err = ifc.ParseFallback(text)
	}
	if err = errors.Join(append(broken, err, structure(text))...); err != nil {
		return fmt.Errorf("%s: %w", typ, err)
	}
	return nil
}
