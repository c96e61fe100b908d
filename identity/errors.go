package identity

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Check names one of the things that are verified about a peer, in this order.
type Check string

// The checks of a handshake.
const (
	CheckCertificate Check = "certificate"  // one is presented, of an acceptable shape
	CheckID          Check = "SPIFFE ID"    // it has exactly one, well-formed
	CheckTrustDomain Check = "trust domain" // somebody of that trust domain is accepted
	CheckPeer        Check = "peer"         // the ID is accepted
	CheckBundle      Check = "bundle"       // we have roots for its trust domain
	CheckExpired     Check = "expired"      // now is before the end of the certificate
	CheckNotYetValid Check = "not yet valid"
	CheckUsage       Check = "key usage" // the certificate is for the peer's role
	CheckChain       Check = "chain"     // it leads to a root of its trust domain
	CheckRevoked     Check = "revoked"   // no certificate of the chain is
)

// PeerError says why a peer was refused.
type PeerError struct {
	Check Check       // the check that failed
	Role  Role        // the role of the peer; zero if not known
	Peer  spiffeid.ID // whom the peer claims to be, unproven; zero if not known
	Want  Peers       // whom we accept
	Local spiffeid.ID // who we are on this hop; zero if not known
	Err   error       // the cause, if there is more to say; Unwrap returns it
}

func (e *PeerError) Error() string {
	msg := "identity: peer refused"
	if e.Role != "" {
		msg = "identity: " + string(e.Role) + " refused"
	}
	if !e.Peer.IsZero() {
		msg += " that claims to be " + e.Peer.String()
	}
	msg += ": " + string(e.Check) + " check failed"
	if e.Check == CheckPeer || e.Check == CheckTrustDomain {
		msg += ": want " + e.Want.String()
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *PeerError) Unwrap() error { return e.Err }

// LocalError says why our own identity cannot be used. Nothing was sent to the
// peer that depends on it.
type LocalError struct {
	ID  spiffeid.ID // who we would be; zero if the source does not say
	Err error       // Unwrap returns it
}

func (e *LocalError) Error() string {
	if e.ID.IsZero() {
		return fmt.Sprintf("identity: no usable identity of our own: %v", e.Err)
	}
	return fmt.Sprintf("identity: our own identity %s cannot be used: %v", e.ID, e.Err)
}

func (e *LocalError) Unwrap() error { return e.Err }
