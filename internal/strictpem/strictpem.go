// Package strictpem reads PEM without passing over anything. encoding/pem skips
// what is malformed, such as a block that was cut off while a file was written:
// a root or a revocation list would be missing and nobody told.
//
//	blocks, err := strictpem.Blocks(data)      // of any type
//	certs, err := strictpem.Certificates(data) // of the type CERTIFICATE alone
//
// Text without "-----" may stand around blocks, as openssl writes it. The
// package reads no keys and verifies nothing.
package strictpem

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const certificate = "CERTIFICATE" // RFC 7468 §5

// Blocks returns all blocks, of which there may be none.
func Blocks(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		if n := bytes.Count(data[:len(data)-len(rest)], []byte("-----BEGIN ")); n != 1 {
			return nil, malformed(len(blocks) + 1)
		}
		blocks, data = append(blocks, block), rest
	}
	if bytes.Contains(data, []byte("-----")) {
		return nil, malformed(len(blocks) + 1)
	}
	return blocks, nil
}

func malformed(number int) error { return fmt.Errorf("malformed PEM: block %d", number) }

// Certificates returns the certificates of blocks that are all of that type, at
// least one.
func Certificates(data []byte) ([]*x509.Certificate, error) {
	blocks, err := Blocks(data)
	if err != nil {
		return nil, err
	}
	certs := make([]*x509.Certificate, 0, len(blocks))
	for i, block := range blocks {
		if block.Type != certificate {
			return nil, fmt.Errorf("PEM block %d is of type %q, want %q", i+1, block.Type, certificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return certs, nil
}
