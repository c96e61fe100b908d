package ztunnel

import (
	"sync"

	"github.com/eastwest-mesh/eastwest/identity"
)

// A keyring has the credentials of a pod for dialling, one for each set of peers
// that is accepted. They are made once: each prepares its set, and watches
// whether the pod's certificate is revoked. It is safe for concurrent use.
type keyring struct {
	trust identity.Config // of all of them, without Peers

	mu      sync.Mutex
	byPeers map[string]*identity.Credentials
}

// maxCredentials bounds a keyring: a pod that dials more sets of peers than that
// makes credentials anew for some of them.
const maxCredentials = 1024

func newKeyring(trust identity.Config, source identity.Source) *keyring {
	trust.Source = source
	return &keyring{trust: trust, byPeers: make(map[string]*identity.Credentials)}
}

// client returns credentials for dialling one of the peers.
func (k *keyring) client(peers identity.Peers) (*identity.Credentials, error) {
	key := peers.Key()
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.byPeers[key]; c != nil {
		return c, nil
	}
	c, err := identity.NewClient(k.config(peers))
	if err != nil {
		return nil, err
	}
	if len(k.byPeers) >= maxCredentials {
		clear(k.byPeers)
	}
	k.byPeers[key] = c
	return c, nil
}

// server returns credentials for accepting the peers.
func (k *keyring) server(peers identity.Peers) (*identity.Credentials, error) {
	return identity.NewServer(k.config(peers))
}

func (k *keyring) config(peers identity.Peers) identity.Config {
	cfg := k.trust
	cfg.Peers = peers
	return cfg
}
