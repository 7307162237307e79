package pki

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
)

// Sides of a proof; each side's differs, so that none can be reflected.
const (
	SideProvider = "provider"
	SideNode     = "node"
)

const exporterLabel = "EXPORTER-clearwater-join"

// ErrProof says that the peer does not know the token, or that the connection is not end to end.
var ErrProof = errors.New("the peer does not prove the join token on this connection")

// Prove returns side's proof that it knows token on this very TLS connection: base64 of
// HMAC-SHA256(token, side || exporter) with the exporter of RFC 5705 (RFC 8446 7.5). A man in the middle has two
// connections with different exporters, so he cannot pass a proof on.
func Prove(cs *tls.ConnectionState, token, side string) (string, error) {
	if token == "" {
		return "", errors.New("proving a join token: there is none")
	}
	exporter, err := cs.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return "", fmt.Errorf("proving a join token: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(side))
	mac.Write(exporter)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// CheckProof compares proof with what side must say; ErrProof if it is not that.
func CheckProof(cs *tls.ConnectionState, token, side, proof string) error {
	want, err := Prove(cs, token, side)
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(want), []byte(proof)) {
		return ErrProof
	}
	return nil
}
